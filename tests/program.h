// Runs the built program as a process of its own and takes down what it says.
#pragma once
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "nn/file.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {

using Arguments = std::vector<std::string>;

inline Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Setting {
  std::string input = {};    // what stdin holds
  int64_t file_limit = -1;   // no file may become longer than this many bytes: as a full disk
  bool closed_pipe = false;  // nobody reads stdout
  int stdout_to = -1;        // a descriptor that stdout goes to
  int stdin_from = -1;       // and one that stdin comes from
  std::string program = RONDO_PROGRAM;
  Arguments environment = {};  // NAME=value, before what is there
};

struct Outcome {
  int code = -1;  // exit code, or 1000 + the signal that ended it
  std::string out, err;
};

// A started program.
class Process {
 public:
  explicit Process(const Arguments& arguments, const Setting& setting = {}) {
    std::ofstream(files_ / "in") << setting.input;
    // The child must not allocate: a thread that is not copied into it may hold the allocator's lock.
    const std::string files[] = {files_ / "in", files_ / "out", files_ / "err"};
    const Arguments words = Arguments{setting.program} + arguments;
    Arguments variables = setting.environment;
    for (char** e = environ; *e; ++e) variables.push_back(*e);
    const std::vector<char*> argv = pointers(words), environment = pointers(variables);
    pid_ = fork();
    if (pid_ == 0) become(files, argv.data(), environment.data(), setting);
  }
  void send(int signal) const { kill(pid_, signal); }
  bool wrote() const {
    std::error_code not_yet;
    return std::filesystem::file_size(files_ / "out", not_yet) > 0 && !not_yet;
  }
  Outcome wait() const {
    int status = 0;
    waitpid(pid_, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return {code, read_file(files_ / "out"), read_file(files_ / "err")};
  }

 private:
  static std::vector<char*> pointers(const Arguments& words) {
    std::vector<char*> all;
    for (const std::string& w : words) all.push_back(const_cast<char*>(w.c_str()));
    all.push_back(nullptr);
    return all;
  }
  [[noreturn]] static void become(const std::string files[3], char* const* argv, char* const* environment,
                                  const Setting& setting) {
    for (int i : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
      dup2(open(files[i].c_str(), (i == STDIN_FILENO ? O_RDONLY : O_WRONLY) | O_CREAT, 0666), i);
    if (setting.closed_pipe) {
      int ends[2];
      if (pipe(ends) == 0) close(ends[0]), dup2(ends[1], STDOUT_FILENO);
    }
    if (setting.stdout_to >= 0) dup2(setting.stdout_to, STDOUT_FILENO);
    if (setting.stdin_from >= 0) dup2(setting.stdin_from, STDIN_FILENO);
    if (setting.file_limit >= 0) {
      const rlimit limit{rlim_t(setting.file_limit), rlim_t(setting.file_limit)};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    execve(argv[0], argv, environment);
    _exit(127);
  }

  Temporary files_;
  pid_t pid_;
};

inline Outcome run_program(const Arguments& arguments, const Setting& setting = {}) {
  return Process(arguments, setting).wait();
}

// What went wrong, as "code message"; the message must be one line.
inline std::string complaint(const Arguments& arguments, const Setting& setting = {}) {
  const Outcome o = run_program(arguments, setting);
  return std::to_string(o.code) + " " + o.err;
}

// Text that has something to learn in it: words in an order that a seed decides.
inline std::string sample_text(size_t n, uint64_t seed = 5) {
  const char* words[] = {"and ", "the ", "light ", "was ", "upon ", "waters ", "he ", "said.\n"};
  Generator g{seed, 1, 0};
  std::string text;
  while (text.size() < n) text += words[g.below(8)];
  return text.substr(0, n);
}

// A model of a moment: trains hundreds of steps a second.
inline Arguments tiny_model() {
  Arguments all;
  for (const char* setting :
       {"model.dim=16", "model.depth=2", "model.dim_head=8", "model.heads=2", "model.max_seq_len=32",
        "model.block_width=16", "model.num_state_vectors=8", "model.recurrent_layers=[2]", "train.batch_size=2"})
    all = all + Arguments{"--set", setting};
  return all;
}

// A directory with a text and the runs of a test.
struct Workplace {
  Temporary directory;
  std::string text = directory / "text.txt";
  explicit Workplace(size_t n = 20000) { write_file(text, sample_text(n)); }

  std::string operator/(const std::string& name) const { return directory / name; }
  std::string checkpoint(const std::string& run, const std::string& step) const {
    return directory / (run + "/checkpoints/step-" + step);
  }
  Arguments train(const std::string& run, int steps, const Arguments& more = {}) const {
    return Arguments{"train", "--data", text, "--out", directory / run, "--steps", std::to_string(steps)} +
           tiny_model() + more;
  }
  Arguments resume(const std::string& run, int steps, const Arguments& more = {}) const {
    return Arguments{"train", "--out", directory / run, "--resume", "--steps", std::to_string(steps)} + more;
  }
};

// metrics.jsonl without what depends on the clock.
inline std::string metrics_of(const std::string& run) {
  std::ifstream file(run + "/metrics.jsonl");
  std::string all;
  for (std::string line; std::getline(file, line);)
    all += line.substr(0, std::min(line.find(",\"tokens_per_s\""), line.find(",\"seconds\""))) + "\n";
  return all;
}

// Waits until a run has made n steps; false if that takes too long.
inline bool wait_for_steps(const std::string& run, int n) {
  for (int i = 0; i < 20000; ++i) {
    std::ifstream file(run + "/metrics.jsonl");
    int lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    if (lines >= n) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace rondo::testing
