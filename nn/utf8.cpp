// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#include "nn/utf8.h"

#include <algorithm>

namespace rondo {

size_t utf8_cut(std::string_view text, size_t n) {
  if (n >= text.size()) return text.size();
  for (size_t cut = n; cut > 0 && n - cut < 4; --cut)
    if ((text[cut] & 0xC0) != 0x80) return cut;
  return n;
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kMax = 100;
  const size_t n = utf8_cut(text, kMax);
  std::string all = "\"";
  for (const char c : text.substr(0, n)) {
    if (uint8_t(c) >= 32 && c != 127)
      all += c;
    else
      all += "\\x", all += "0123456789abcdef"[c >> 4], all += "0123456789abcdef"[c & 15];
  }
  return all + (n < text.size() ? "...\"" : "\"");
}

size_t utf8_length(uint8_t first) {
  return first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

// The second byte is bounded where the first would allow overlong forms, surrogates, or more than U+10FFFF.
bool utf8_continues(uint8_t first, size_t place, uint8_t byte) {
  const uint8_t low = place > 1 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = place > 1 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  return byte >= low && byte <= high;
}

int64_t first_not_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const uint8_t first = uint8_t(text[i]);
    const size_t length = utf8_length(first);
    if (length == 0 || length > text.size() - i) return int64_t(i);
    for (size_t k = 1; k < length; ++k)
      if (!utf8_continues(first, k, uint8_t(text[i + k]))) return int64_t(i);
    i += length;
  }
  return -1;
}

}  // namespace rondo
