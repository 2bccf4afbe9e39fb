// Text as bytes: files read, plain or gzip-compressed, and bytes as tokens.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../tensor/random.h"

namespace rondo {

// The bytes of all files, one after the other; gzip files are unpacked.
std::string read_text(const std::vector<std::string>& files);

// bytes[begin .. begin+n-1] as a row of i64 tokens: [1, n].
Tensor tokens_of(std::string_view bytes, int64_t begin, int64_t n);
inline Tensor tokens_of(std::string_view bytes) { return tokens_of(bytes, 0, int64_t(bytes.size())); }

}  // namespace rondo
