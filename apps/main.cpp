// The program `rondo`: a subcommand a file. Exit 0 done, 1 failed, 2 usage; errors are one line on stderr.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>
#include <new>
#include <sstream>

#include "apps/commands.h"
#include "apps/output.h"
#include "apps/sentencepiece.h"
#include "apps/usage.h"
#include "tensor/device.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

std::string version() {
  std::ostringstream text;
  text << "rondo " << RONDO_VERSION << "\ncompiler: ";
#ifdef __clang__
  text << "clang++ " << __clang_major__ << '.' << __clang_minor__ << '.' << __clang_patchlevel__;
#else
  text << "g++ " << __GNUC__ << '.' << __GNUC_MINOR__ << '.' << __GNUC_PATCHLEVEL__;
#endif
  text << "\nEigen: " << RONDO_EIGEN_VERSION << "\nGEMM: own kernel, " << describe_cpu()
       << "\nCUDA: " << describe_cuda()
       << "\nSentencePiece: " << (have_sentencepiece() ? "yes" : "none (built without)")
       << "\nthreads: " << num_threads();
  return text.str();
}

// The next file that is opened would take the place of one that is closed, and get what is printed.
void fill_standard_streams() {
  int file = 0;
  while (file >= 0 && file <= STDERR_FILENO) file = open("/dev/null", O_RDWR);
  if (file >= 0) close(file);
}

int failed(int code, std::string message) {
  for (char& c : message)
    if (c == '\n') c = ' ';
  std::cerr << "rondo: " << message << std::endl;
  return code;
}

// What is wrong with the command line, and whose help tells more.
std::string usage_text(const CLI::App& app, const CLI::Error& e) {
  if (const auto given = app.get_subcommands(); !given.empty())
    return std::string(e.what()) + " (see rondo " + given.front()->get_name() + " --help)";
  const std::vector<std::string> rest = app.remaining();
  std::string text = rest.empty() ? "no command is given" : "no command is called " + rest.front();
  const auto all = app.get_subcommands([](const CLI::App*) { return true; });
  for (size_t i = 0; i < all.size(); ++i)
    text += (i == 0 ? "; there are " : i + 1 < all.size() ? ", " : " and ") + all[i]->get_name();
  return text + " (see rondo --help)";
}

int parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::Error& e) {
    return failed(2, usage_text(app, e));
  } catch (const UsageError& e) {
    return failed(2, e.what());
  } catch (const std::bad_alloc&) {
    return failed(1, "out of memory");
  } catch (const std::exception& e) {
    return failed(1, e.what());
  }
}

}  // namespace
}  // namespace rondo

int main(int argc, char** argv) {
  rondo::fill_standard_streams();
  // A full disk and a closed pipe are errors to handle where they happen, not reasons to die.
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  // Some devices are taken for terminals: then a line that could not be written would fail long before it is asked why.
  if (!isatty(STDOUT_FILENO)) std::setvbuf(stdout, nullptr, _IOFBF, BUFSIZ);

  CLI::App app("Block-recurrent transformers: train, evaluate, generate.", "rondo");
  app.require_subcommand(1);
  app.set_version_flag("--version", rondo::version);
  for (const auto add : {rondo::add_train, rondo::add_eval, rondo::add_generate, rondo::add_chat, rondo::add_convert,
                         rondo::add_vocabulary, rondo::add_verify, rondo::add_bench, rondo::add_info, rondo::add_graph})
    add(app);
  const int code = rondo::parse_and_run(app, argc, argv);
  rondo::flush_output();
  const std::string error = rondo::output_error();
  return code || error.empty() ? code : rondo::failed(1, "cannot write to stdout: " + error);
}
