// How the right-hand side of a product is cut for the inner loops: panels of a few registers' columns, the last one
// perhaps of fewer.
#pragma once
#include <algorithm>

#include "tensor/cpu/vector.h"

namespace rondo::cpu {

// Registers to a row of a panel. The wider a panel, the fewer numbers are loaded for a product: 6 rows of 4 registers
// take 10 loads for 24 of them, 12 rows of 2 take 14. Both sides and the sums must fit the registers there are.
inline constexpr int kAcross = kRegisterBytes == 64 ? 4 : 2;
template <class T>
inline constexpr int64_t kPanel = int64_t{kAcross} * Register<T>::length;

template <class T>
int64_t padded(int64_t n) {
  return (n + Register<T>::length - 1) / Register<T>::length * Register<T>::length;
}
// How many panels of `columns` columns cover n, and the width of one: the last is rounded up to whole registers.
inline int64_t n_panels(int64_t n, int64_t columns) { return (n + columns - 1) / columns; }
template <class T>
int64_t panel_width(int64_t n, int64_t columns, int64_t panel) {
  return std::min(columns, padded<T>(n) - panel * columns);
}

// How many rows of C the inner loop keeps in registers.
inline constexpr int kRows = kRegisterBytes >= 32 ? 6 : kRegisters / 4;
inline constexpr int64_t kTallest = 96;  // rows of a tile
// A transposed A is read in place if at most so many columns need it.
inline constexpr int64_t kColumnsReadInPlace = 128;

// A B of at most so many numbers is read in place; a larger one would be read a few numbers from each of many pages.
inline constexpr int64_t kNumbersReadInPlace = 32768;

// k is cut into blocks of this: a panel of B stays in the first-level cache.
inline constexpr int64_t kDepth = kAcross == 4 ? 128 : 256;

}  // namespace rondo::cpu
