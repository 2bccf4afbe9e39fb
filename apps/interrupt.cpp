#include "apps/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tensor/check.h"

namespace rondo {
namespace {

volatile sig_atomic_t stop_requested = 0;
// A byte goes through it with each signal, which any thread may get: who waits for input waits for this as well.
int signal_pipe[2] = {-1, -1};

void on_signal(int signal) {
  if (stop_requested) _exit(128 + signal);
  stop_requested = 1;
  const int error = errno;
  [[maybe_unused]] const ssize_t n = write(signal_pipe[1], "", 1);
  errno = error;
}

}  // namespace

Interrupt::Interrupt() {
  if (signal_pipe[0] < 0) {
    const bool made = pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) == 0;
    check(made, "cannot make a pipe: ", std::strerror(errno));
  }
  forget();
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &previous_int_);
  sigaction(SIGTERM, &action, &previous_term_);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &previous_int_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
}

bool Interrupt::requested() const { return stop_requested; }

void Interrupt::forget() {
  char byte;
  while (read(signal_pipe[0], &byte, 1) > 0) {
  }
  stop_requested = 0;
}

bool Interrupt::wait_to_read(int file) const {
  pollfd both[] = {{file, POLLIN, 0}, {signal_pipe[0], POLLIN, 0}};
  while (!requested() && poll(both, 2, -1) < 0) check(errno == EINTR, "cannot wait for input: ", std::strerror(errno));
  return !requested();
}

}  // namespace rondo
