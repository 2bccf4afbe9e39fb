// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#include "nn/utf8.h"

#include <algorithm>

namespace rondo {

std::string in_quotes(std::string_view text) {
  constexpr size_t kMax = 100;
  size_t n = std::min(text.size(), kMax);
  while (n < text.size() && n > 0 && (text[n] & 0xC0) == 0x80) --n;  // not through the middle of a character
  std::string all = "\"";
  for (const char c : text.substr(0, n)) {
    if (uint8_t(c) >= 32 && c != 127)
      all += c;
    else
      all += "\\x", all += "0123456789abcdef"[c >> 4], all += "0123456789abcdef"[c & 15];
  }
  return all + (n < text.size() ? "...\"" : "\"");
}

int64_t first_not_utf8(std::string_view text) {
  const size_t n = text.size();
  for (size_t i = 0; i < n;) {
    const uint8_t c = uint8_t(text[i]);
    const size_t length = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (length == 0 || length > n - i) return int64_t(i);
    for (size_t k = 1; k < length; ++k) {
      // The second byte is bounded where the first would allow overlong forms, surrogates, or more than U+10FFFF.
      const uint8_t low = k > 1 ? 0x80 : c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
      const uint8_t high = k > 1 ? 0xBF : c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
      const uint8_t b = uint8_t(text[i + k]);
      if (b < low || b > high) return int64_t(i);
    }
    i += length;
  }
  return -1;
}

}  // namespace rondo
