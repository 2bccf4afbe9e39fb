#include "apps/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "apps/output.h"

namespace rondo {
namespace {

constexpr int64_t kPlainEvery = 10;         // steps from one plain line to the next
constexpr double kTerminalEvery = 0.1;      // seconds
constexpr const char* kErase = "\r\x1b[K";  // back to the start of the terminal's line, which is cleared

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Of stdout; where that does not know, as many as any line needs.
size_t terminal_columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 1000;
}

// 75 -> "1m15s"
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

// 4.56e11 -> "456 GFLOP/s"
std::string flops_text(double per_second) {
  const bool tera = per_second >= 1e12;
  const double shown = per_second / (tera ? 1e12 : 1e9);
  return formatted(shown < 100 ? "%.3g" : "%.0f", shown) + (tera ? " TFLOP/s" : " GFLOP/s");
}

}  // namespace

Progress::Progress(int64_t first, int64_t last) : first_(first), last_(last), terminal_(isatty(STDOUT_FILENO)) {}

std::string Progress::step_text(const StepRecord& r) const {
  const double left = r.seconds / double(r.step - first_) * double(last_ - r.step);
  std::string fields[] = {"step " + std::to_string(r.step) + "/" + std::to_string(last_),
                          formatted("loss %.4f", r.loss),
                          formatted("%.4f bits/byte", r.bits_per_byte),
                          formatted("lr %.2e", r.learning_rate),
                          formatted("norm %.3f", r.grad_norm),
                          formatted("%.0f tokens/s", r.tokens_per_s),
                          flops_text(r.flops_per_s),
                          duration_text(left) + " left"};
  const auto together = [&] {
    std::string text;
    for (const std::string& field : fields)
      if (!field.empty()) text += (text.empty() ? "" : "  ") + field;
    return text;
  };
  std::string text = together();
  if (!terminal_) return text;
  // A line that wraps could not be written over. On a narrow terminal fields go: operations, learning rate, norm,
  // tokens, then bits.
  const size_t room = terminal_columns() - 1;
  for (const size_t field : {6, 3, 4, 5, 2}) {
    if (text.size() <= room) break;
    fields[field].clear();
    text = together();
  }
  return text.substr(0, room);
}

void Progress::step(const StepRecord& r) {
  const bool ends = r.step == last_;
  if (terminal_ ? !ends && r.seconds - shown_ < kTerminalEvery : !ends && r.step != first_ + 1 && r.step % kPlainEvery)
    return;
  const std::string text = step_text(r);
  if (terminal_)
    std::printf("%s%s", kErase, text.c_str());
  else
    std::printf("%s\n", text.c_str());
  flush_output();
  pending_ = terminal_;
  shown_ = r.seconds;
}

void Progress::line(const std::string& text) {
  std::printf("%s%s\n", pending_ ? "\n" : "", text.c_str());
  flush_output();
  pending_ = false;
}

}  // namespace rondo
