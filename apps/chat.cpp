// rondo chat: a line in, a line out, over one sequence that remembers all of them.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <optional>

#include "apps/session.h"
#include "apps/usage.h"

namespace rondo {
namespace {

// The next line of stdin without its end; none at the end of the input, or when a signal comes before it is whole.
// `rest` is what was read behind the line.
std::optional<std::string> read_line(const Interrupt& interrupt, std::string& rest) {
  size_t end, searched = 0;
  while ((end = rest.find('\n', searched)) == std::string::npos) {
    searched = rest.size();
    if (!interrupt.wait_to_read(STDIN_FILENO)) return {};
    char bytes[4096];
    const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, "cannot read stdin: ", std::strerror(errno));
    if (n == 0 && rest.empty()) return {};
    rest.append(n == 0 ? "\n" : std::string(bytes, size_t(n)));
  }
  const std::string line = rest.substr(0, end);
  rest.erase(0, end + 1);
  return line;
}

// Ctrl-C ends an answer; at the prompt, or where nobody sits at a terminal, it ends the chat. The state is saved after
// each answer: whatever ends the chat, no more than the answer being made is lost.
void run(SessionOptions& options) {
  const LoadedModel loaded = open_model(options);
  if (options.stops.empty() && drops_lines(loaded))
    throw UsageError(
        "an answer ends at a line's end, which this run's vocabulary drops; say with --stop where it ends");
  if (options.stops.empty()) options.stops.push_back("\n");
  const uint64_t seed = seed_of(options);
  Session session(loaded, options, seed);
  std::cerr << "seed " << seed << std::endl;
  const bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  Interrupt interrupt;
  bool open = true;
  std::string rest;
  while (open && !interrupt.requested() && (!terminal || write_out("> "))) {
    const std::optional<std::string> line = read_line(interrupt, rest);
    if (!line) break;
    try {
      session.feed(0, *line + "\n", "the line");
    } catch (const Error& e) {  // the next line may be better
      std::cerr << "rondo: " << e.what() << std::endl;
      continue;
    }
    const Session::Written w = session.write(
        interrupt,
        [&](int64_t, const std::string& text, const Continuation::Drawn*) { return open = write_out(text); })[0];
    open = open && write_out("\n");
    tell_speed(options, w, session.speculation());
    session.save();
    if (w.interrupted && terminal) interrupt.forget();
  }
  if (terminal && open) write_out("\n");
  if (session.began(0)) session.save();  // else a file that is there stays
}

}  // namespace

void add_chat(CLI::App& program) {
  Command command(program, "chat", "Answer lines of stdin, each with all before it in mind");
  SessionOptions& options = command.run<SessionOptions>(run);
  add_session_options(command, options);
}

}  // namespace rondo
