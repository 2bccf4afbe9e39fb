// How the right-hand side of a product is cut for the inner loops: panels of two registers' columns, the last one
// perhaps half as wide.
#pragma once
#include <algorithm>

#include "tensor/cpu/vector.h"

namespace rondo::cpu {

template <class T>
inline constexpr int64_t kPanel = 2 * Register<T>::length;

template <class T>
int64_t padded(int64_t n) {
  return (n + Register<T>::length - 1) / Register<T>::length * Register<T>::length;
}
template <class T>
int64_t n_panels(int64_t n) {
  return (n + kPanel<T> - 1) / kPanel<T>;
}
template <class T>
int64_t panel_width(int64_t n, int64_t panel) {
  return std::min(kPanel<T>, padded<T>(n) - panel * kPanel<T>);
}

inline constexpr int64_t kDepth = 256;  // k is cut into blocks of this: a panel of B stays in the first-level cache

}  // namespace rondo::cpu
