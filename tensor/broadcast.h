// Broadcasting: shapes are aligned at the right, and a dimension that is 1 or missing is repeated.
#pragma once
#include "tensor/shape.h"

namespace rondo {

// Whether `from` can be repeated to `to`.
inline bool broadcasts(const Shape& from, const Shape& to) {
  if (from.rank() > to.rank()) return false;
  for (int i = 1; i <= from.rank(); ++i)
    if (from[-i] != 1 && from[-i] != to[-i]) return false;
  return true;
}

// The shape that a and b are both repeated to, if there is one: ask broadcasts(a, result) and broadcasts(b, result).
inline Shape broadcast_shape(const Shape& a, const Shape& b) {
  Shape shape = a.rank() < b.rank() ? b : a;
  const Shape& other = a.rank() < b.rank() ? a : b;
  for (int i = 1; i <= other.rank(); ++i)
    if (shape[-i] == 1) shape[-i] = other[-i];
  return shape;
}

// The strides by which a contiguous tensor of shape `from` is read as one of shape `to`: 0 where it is repeated.
inline Shape broadcast_strides(const Shape& from, const Shape& to) {
  Shape strides;
  for (int i = 0; i < to.rank(); ++i) strides.push_back(0);
  int64_t stride = 1;
  for (int i = 1; i <= from.rank(); ++i) {
    if (from[-i] != 1) strides[-i] = stride;
    stride *= from[-i];
  }
  return strides;
}

}  // namespace rondo
