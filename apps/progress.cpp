#include "apps/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace rondo {
namespace {

constexpr int64_t kPlainEvery = 10;         // steps from one plain line to the next
constexpr double kTerminalEvery = 0.1;      // seconds
constexpr const char* kErase = "\r\x1b[K";  // back to the start of the terminal's line, which is cleared

}  // namespace

std::string duration_text(double seconds) {
  const long long s = std::llround(seconds);
  char text[64];
  if (s < 60)
    std::snprintf(text, sizeof text, "%llds", s);
  else if (s < 3600)
    std::snprintf(text, sizeof text, "%lldm%02llds", s / 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lldh%02lldm", s / 3600, s / 60 % 60);
  return text;
}

Progress::Progress(int64_t first, int64_t last) : first_(first), last_(last), terminal_(isatty(STDOUT_FILENO)) {}

void Progress::step(const StepRecord& r) {
  const bool ends = r.step == last_;
  if (terminal_ ? !ends && r.seconds - shown_ < kTerminalEvery : !ends && r.step != first_ + 1 && r.step % kPlainEvery)
    return;
  const double left = r.seconds / double(r.step - first_) * double(last_ - r.step);
  char text[256];
  std::snprintf(text, sizeof text,
                "step %lld/%lld  loss %.4f  %.4f bits/byte  lr %.2e  norm %.3f  %.0f tokens/s  %s left",
                static_cast<long long>(r.step), static_cast<long long>(last_), r.loss, r.bits_per_byte, r.learning_rate,
                r.grad_norm, r.tokens_per_s, duration_text(left).c_str());
  if (terminal_)
    std::printf("%s%s", kErase, text);
  else
    std::printf("%s\n", text);
  std::fflush(stdout);
  pending_ = terminal_;
  shown_ = r.seconds;
}

void Progress::line(const std::string& text) {
  std::printf("%s%s\n", pending_ ? "\n" : "", text.c_str());
  std::fflush(stdout);
  pending_ = false;
}

}  // namespace rondo
