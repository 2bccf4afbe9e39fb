#include "apps/interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace rondo {
namespace {

volatile sig_atomic_t stop_requested = 0;
struct sigaction previous_int, previous_term;

void on_signal(int signal) {
  if (stop_requested) _exit(128 + signal);
  stop_requested = 1;
}

}  // namespace

Interrupt::Interrupt() {
  stop_requested = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &previous_int);
  sigaction(SIGTERM, &action, &previous_term);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &previous_int, nullptr);
  sigaction(SIGTERM, &previous_term, nullptr);
}

bool Interrupt::requested() const { return stop_requested; }

}  // namespace rondo
