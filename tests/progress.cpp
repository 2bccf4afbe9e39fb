// The line that a run writes over on a terminal.
#include <pty.h>

#include "tests/program.h"

namespace rondo::testing {
namespace {

struct Terminal {
  int ours = -1, theirs = -1;
  explicit Terminal(unsigned short columns) {
    const winsize size{24, columns, 0, 0};
    if (openpty(&ours, &theirs, nullptr, nullptr, &size) != 0) ours = theirs = -1;
  }
  // All that is written there until nobody has it open.
  std::string read_all() {
    close(theirs);
    std::string text;
    char piece[4096];
    for (ssize_t n; (n = read(ours, piece, sizeof piece)) > 0;) text.append(piece, size_t(n));
    close(ours);
    return text;
  }
};

// What a run of three steps writes over one another, without what ends a line that stays.
std::vector<std::string> steps_on(Terminal terminal) {
  const Workplace work;
  const Process run(work.train("run", 3), {.stdout_to = terminal.theirs});
  std::string text = terminal.read_all();
  CHECK(run.wait().code == 0);
  const std::string erase = "\r\x1b[K";
  std::vector<std::string> lines;
  for (size_t at; (at = text.find(erase)) != text.npos;) {
    text.erase(0, at + erase.size());
    lines.push_back(text.substr(0, text.find_first_of("\r\n")));
  }
  return lines;
}

}  // namespace

TEST_CASE("progress: one line of a terminal, whatever its width") {
  Terminal any(80);
  if (any.ours < 0) return skip("this machine has no pseudo-terminals");
  any.read_all();
  const auto has = [](const std::string& line, const char* part) { return line.find(part) != line.npos; };
  for (const unsigned short columns : {200, 80, 50, 12, 1, 0}) {
    CAPTURE(columns);
    const std::vector<std::string> lines = steps_on(Terminal(columns));
    REQUIRE(lines.size() >= 2);  // the first step and the last
    CHECK(lines.back().starts_with(std::string("step 3/3  loss ").substr(0, columns ? columns - 1u : 99u)));
    for (const std::string& line : lines) {
      CAPTURE(line);
      CHECK((columns == 0 || line.size() < columns));  // 0: it does not tell
      CHECK(has(line, "s left") == (columns != 12 && columns != 1));
      CHECK(has(line, "tokens/s") == (columns != 50 && columns != 12 && columns != 1));
      for (const char* part : {"  lr ", "FLOP/s"}) CHECK(has(line, part) == (columns == 200 || columns == 0));
    }
  }
}

}  // namespace rondo::testing
