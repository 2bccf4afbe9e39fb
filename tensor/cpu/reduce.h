// The one way to add many numbers: by fixed chunks, whose sums are added again by fixed chunks.
#pragma once
#include <cstdint>

namespace rondo::cpu {

// x is [outer, n, inner]; y [outer, inner] = the sum over the middle.
template <class T>
void sum_middle(const T* x, int64_t outer, int64_t n, int64_t inner, T* y);

}  // namespace rondo::cpu
