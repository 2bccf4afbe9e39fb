// The tutorial's programs do what they say; each checks itself and exits with 0.
#include <sys/wait.h>

#include <cstdio>

#include "tests/mallocs.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// What an example prints, and its exit code in the last line.
std::string run(const std::string& command) {
  const Temporary directory;  // for what it writes
  std::FILE* pipe = popen(("cd '" + (directory / "") + "' && '" RONDO_EXAMPLES "/'" + command + " 2>&1").c_str(), "r");
  std::string out;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  const int status = pclose(pipe);
  return out + "exit " + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

TEST_CASE("examples: the README's") {
  const std::string out = run("readme");
  CHECK(out.find("step 60  loss 0.") != std::string::npos);
  CHECK(out.find("brown fox jumps over") != std::string::npos);
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: tensors") {
  const std::string out = run("01_tensor");
  CHECK(out.find("matmul: b has shape (2, 3), but a of shape (2, 3) asks for (3, 3)") != std::string::npos);
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: the tape") {
  const std::string out = run("02_tape");
  CHECK(out.find("recorded ops: 3") != std::string::npos);
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: training a small network") {
  const std::string out = run("03_train_mlp");
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: a model of one's own") {
  const std::string out = run("05_gru");
  CHECK(out.find("\nFor want of a horse the rider was lost. For want of a rider the message") != std::string::npos);
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: an ordinary transformer") {
  const std::string out = run("06_gpt");
  CHECK(out.find("of 1000 new rows") != std::string::npos);
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: a convolutional network") {
  const std::string out = run("07_cnn");
  CHECK(out.find("of 1000 new drawings") != std::string::npos);
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

TEST_CASE("examples: key recall, which only the recurrent states can solve") {
  if (!mallocs_are_counted()) return skip("minutes of training under a sanitizer; the plain build runs it");
  const std::string out = run("04_block_recurrent 0");
  CHECK_MESSAGE(out.ends_with("exit 0"), out);
}

}  // namespace
}  // namespace rondo::testing
