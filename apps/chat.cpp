// rondo chat: a line in, a line out, over one sequence that remembers all of them.
#include <unistd.h>

#include <iostream>

#include "apps/session.h"

namespace rondo {
namespace {

void run(SessionOptions& options) {
  if (options.stops.empty()) options.stops.push_back("\n");
  const LoadedModel loaded = open_model(options);
  const uint64_t seed = seed_of(options);
  Session session(loaded, options, seed);
  std::cerr << "seed " << seed << std::endl;
  const bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  bool open = true;
  std::string line;
  while (open && (!terminal || write_out("> ")) && std::getline(std::cin, line)) {
    try {
      session.feed(0, line + "\n", "the line");
    } catch (const Error& e) {  // the next line may be better
      std::cerr << "rondo: " << e.what() << std::endl;
      continue;
    }
    const Session::Written w = session.write(
        [&](int64_t, const std::string& text, const Continuation::Drawn*) { return open = write_out(text); })[0];
    open = open && write_out("\n");
    tell_speed(options, w, session.speculation());
  }
  if (terminal && open) write_out("\n");
  session.save();
}

}  // namespace

void add_chat(CLI::App& program) {
  Command command(program, "chat", "Answer lines of stdin, each with all before it in mind");
  SessionOptions& options = command.run<SessionOptions>(run);
  add_session_options(command, options);
}

}  // namespace rondo
