// Ctrl-C and SIGTERM while something long goes on: the first one asks to stop at the next whole step, the second one
// quits at once.
#pragma once

namespace rondo {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();  // the signals do again what they did before
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  bool requested() const;
};

}  // namespace rondo
