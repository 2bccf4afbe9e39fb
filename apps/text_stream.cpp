#include "apps/text_stream.h"

#include <algorithm>
#include <utility>

#include "nn/utf8.h"

namespace rondo {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string Utf8Stream::push(unsigned char byte) {
  std::string out;
  if (!held_.empty() && !utf8_continues(uint8_t(held_[0]), held_.size(), byte)) out = finish();
  held_ += char(byte);
  const size_t length = utf8_length(uint8_t(held_[0]));
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

std::string TextStream::push(int64_t token) {
  std::string bytes = tokenizer_->text_of(token), out;
  if (bytes.empty()) bytes = "\xFF";  // which is in no text
  for (size_t i = 0; i < bytes.size() && !stopped(); ++i) out += whole(stop_.push(bytes[i]));
  return out;
}

}  // namespace rondo
