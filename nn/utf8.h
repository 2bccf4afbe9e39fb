// Text that came from outside: is it UTF-8, and how does it look in a message of one line?
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace rondo {

// How many bytes a character that begins so has; 0: none begins so.
size_t utf8_length(uint8_t first);
// Whether `byte` may stand at `place` (1 to 3) of a character that begins with `first`.
bool utf8_continues(uint8_t first, size_t place, uint8_t byte);
// The index of the first byte that is not UTF-8, or -1.
int64_t first_not_utf8(std::string_view text);

// The last place up to n where a character ends, so that the text can be cut there; n where none does.
size_t utf8_cut(std::string_view text, size_t n);

// The text in quotes, at most 100 bytes of it, control characters escaped.
std::string in_quotes(std::string_view text);

}  // namespace rondo
