// Ctrl-C and SIGTERM while something long goes on: the first one asks to stop at the next whole step, the second one
// quits at once.
#pragma once
#include <signal.h>

namespace rondo {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();  // the signals do again what they did before
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool requested() const;
  // As if none had come: the next one is the first.
  void forget();
  // Waits until a file has something to read, or is at its end; false if a signal came first.
  bool wait_to_read(int file) const;

 private:
  struct sigaction previous_int_, previous_term_;
};

}  // namespace rondo
