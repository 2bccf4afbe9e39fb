// chat on a terminal of its own: Ctrl-C as a user gives it.
#include <poll.h>
#include <pty.h>
#include <termios.h>

#include "apps/run.h"
#include "models/block_recurrent/decoder.h"
#include "tests/trained.h"

namespace rondo::testing {
namespace {

// The program on a pseudo-terminal. What it writes is `seen`.
class Terminal {
 public:
  explicit Terminal(const Arguments& arguments) {
    std::vector<char*> argv{const_cast<char*>(RONDO_PROGRAM)};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    pid_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (pid_ == 0) execv(RONDO_PROGRAM, argv.data()), _exit(127);
    REQUIRE(pid_ > 0);
    tcgetattr(terminal_, &before_);
  }
  ~Terminal() { close(terminal_); }

  void type(const std::string& text) const {
    CHECK(write(terminal_, text.data(), text.size()) == ssize_t(text.size()));
  }
  // Reads on until there is `text` behind the place where the last wait ended; false at the end, or after 20 s.
  bool wait_for(const std::string& text) {
    size_t found;
    while ((found = seen.find(text, place_)) == std::string::npos)
      if (!read_some()) return false;
    place_ = found + text.size();
    return true;
  }
  // Reads to the end.
  int exit_code() {
    while (read_some()) {
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  // The terminal's settings are those that the program found.
  bool whole() const {
    termios now = {};
    tcgetattr(terminal_, &now);
    return now.c_iflag == before_.c_iflag && now.c_oflag == before_.c_oflag && now.c_lflag == before_.c_lflag;
  }
  std::string seen;

 private:
  bool read_some() {
    pollfd one = {terminal_, POLLIN, 0};
    char bytes[1024];
    if (poll(&one, 1, 20000) <= 0) return false;
    const ssize_t n = read(terminal_, bytes, sizeof bytes);
    if (n > 0) seen.append(bytes, size_t(n));
    return n > 0;
  }

  int terminal_ = -1;
  pid_t pid_;
  size_t place_ = 0;
  termios before_ = {};
};

}  // namespace

TEST_CASE("chat on a terminal: Ctrl-C ends an answer, then the chat, and both keep the state") {
  const TrainedWorkplace work;
  const LoadedModel loaded = load_model(work.run);
  const auto tokens_kept = [&] { return Decoder::load(loaded.model, work / "state").position(0); };
  Terminal terminal({"chat", work.run, "--seed", "1", "--length", "1000000000", "--stop", "not in it", "--save-state",
                     work / "state"});
  REQUIRE(terminal.wait_for("> "));
  terminal.type("the light\n");
  REQUIRE(terminal.wait_for("the light\r\n"));  // the echo; then the answer
  REQUIRE(terminal.wait_for("th"));
  CHECK(!std::filesystem::exists(work / "state"));
  terminal.type("\x03");
  REQUIRE(terminal.wait_for("\n> "));
  const int64_t kept = tokens_kept();
  CHECK(kept > 10);

  terminal.type("and he\n");  // and it goes on
  REQUIRE(terminal.wait_for("and he\r\n"));
  REQUIRE(terminal.wait_for("th"));  // Ctrl-C throws away a line that was not read yet
  terminal.type("\x03");
  REQUIRE(terminal.wait_for("\n> "));
  CHECK(tokens_kept() >= kept + 7);
  REQUIRE(std::filesystem::remove(work / "state"));
  terminal.type("half a line\x03");
  CHECK(terminal.exit_code() == 0);
  CHECK(terminal.seen.ends_with("\r\n"));
  CHECK(terminal.whole());
  CHECK(tokens_kept() >= kept + 7);
  CHECK(work.generate({"--length", "5", "--state", work / "state"}).code == 0);
}

TEST_CASE("chat in a pipe: a signal ends it, and the state is kept") {
  const TrainedWorkplace work;
  for (const int signal : {SIGINT, SIGTERM}) {
    std::filesystem::remove(work / "state");
    const Process chat({"chat", work.run, "--seed", "1", "--length", "1000000000", "--stop", "not in it",
                        "--save-state", work / "state"},
                       {.input = "the light\nand he\n"});
    while (!chat.wrote()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    chat.send(signal);
    CHECK(chat.wait().code == 0);
    CHECK(work.generate({"--length", "5", "--state", work / "state"}).code == 0);
  }
}

TEST_CASE("chat: one that was told nothing leaves a saved state alone") {
  const TrainedWorkplace work;
  REQUIRE(work.generate({"--length", "5", "--save-state", work / "state"}).code == 0);
  const std::string before = read_file(work / "state");
  CHECK(run_program({"chat", work.run, "--save-state", work / "state"}, {.input = ""}).code == 0);
  CHECK(read_file(work / "state") == before);
}

}  // namespace rondo::testing
