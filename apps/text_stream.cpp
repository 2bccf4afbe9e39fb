#include "apps/text_stream.h"

#include <algorithm>
#include <utility>

namespace rondo {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// How many bytes a character that begins so has; 0: none begins so.
size_t length_of(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  return first >= 0xF0 && first <= 0xF4 ? 4 : 0;
}

// The second byte is narrower after some: no overlong forms, no surrogates, nothing above U+10FFFF.
bool continues(unsigned char first, size_t place, unsigned char byte) {
  if (place > 1) return byte >= 0x80 && byte <= 0xBF;
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  return byte >= low && byte <= high;
}

}  // namespace

std::string Utf8Stream::push(unsigned char byte) {
  std::string out;
  if (!held_.empty() && !continues(static_cast<unsigned char>(held_[0]), held_.size(), byte)) out = finish();
  held_ += char(byte);
  const size_t length = length_of(static_cast<unsigned char>(held_[0]));
  if (length == 0) return out + finish();
  return held_.size() == length ? out + std::exchange(held_, "") : out;
}

std::string Utf8Stream::finish() { return std::exchange(held_, "").empty() ? "" : kReplacement; }

std::string StopStream::push(char byte) {
  held_ += byte;
  size_t keep = 0, stop_size = 0;  // the longest end of what is held that begins a stop text, and that is one
  for (const std::string& stop : stops_) {
    if (held_.ends_with(stop)) stop_size = std::max(stop_size, stop.size());
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
  }
  stopped_ = stop_size > 0;
  if (stopped_) return held_.substr(0, held_.size() - stop_size);
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

}  // namespace rondo
