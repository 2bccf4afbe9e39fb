// What happens to one head (D numbers) on its way into attention: the one place of these formulas, for the ops
// l2_normalize and rotary and for the attention kernel, which applies them as it loads queries and keys. E is what the
// head is kept in, T what is computed in.
#pragma once
#include <algorithm>
#include <cmath>

#include "tensor/cpu/lanes.h"

namespace rondo::cpu {

inline constexpr double kMinNorm = 1e-12;

template <class E, class T = computed_t<E>>
T head_norm(const E* x, int64_t d) {
  return std::sqrt(lane_sum<T>(d, kProduct, x, x));
}

// y = x / max(|x|, 1e-12) * scale. y may be x.
template <class E, class T>
void l2_normalize_head(const E* x, const T* scale, int64_t d, T* y) {
  const T r = T(1) / std::max(head_norm(x, d), T(kMinNorm));
  const auto normalize = [=](const auto& v, const auto& s) { return v * r * s; };
  lane_map(d, y, normalize, x, scale);
}

// With n = x / |x| and g = dy * scale: dx = (g - n <n, g>) / |x|, and dscale += dy * n. Below the smallest norm, where
// x is divided by a constant, the term with <n, g> is absent. dx may be dy or x.
template <class E, class T>
void l2_normalize_head_backward(const T* dy, const E* x, const T* scale, int64_t d, T* dx, T* dscale) {
  const T norm = head_norm(x, d), r = T(1) / std::max(norm, T(kMinNorm));
  const T along = norm >= T(kMinNorm) ? r * lane_sum<T>(d, kProduct, dy, scale, x) : T(0);
  const auto into_dscale = [=](const auto& old, const auto& g, const auto& v) { return old + g * v * r; };
  const auto into_dx = [=](const auto& g, const auto& s, const auto& v) { return r * (g * s - v * r * along); };
  lane_map(d, dscale, into_dscale, dscale, dy, x);
  lane_map(d, dx, into_dx, dy, scale, x);
}

// Rotates the pairs (x[i], x[i + D/2]) by the angles of a table's row, which holds scale*cos (D/2) and scale*sin (D/2);
// `direction` -1 is the transposed map. y may be x.
template <class T>
void rotate_pairs(const T* x, const T* table_row, T direction, int64_t d, T* y) {
  const int64_t half = d / 2;
  constexpr int kWidth = 64 / int(sizeof(T));
  using Pack = Eigen::Array<T, kWidth, 1>;
  const auto load = [](const T* p) { return Pack(Eigen::Map<const Pack>(p)); };
  int64_t i = 0;
  for (; i + kWidth <= half; i += kWidth) {
    const Pack a = load(x + i), b = load(x + half + i), c = load(table_row + i),
               s = load(table_row + half + i) * direction;
    Eigen::Map<Pack>(y + i) = a * c - b * s;
    Eigen::Map<Pack>(y + half + i) = b * c + a * s;
  }
  for (; i < half; ++i) {
    const T a = x[i], b = x[half + i], c = table_row[i], s = table_row[half + i] * direction;
    y[i] = a * c - b * s;
    y[half + i] = b * c + a * s;
  }
}

// y = x * cos + rotate_half(x) * sin, rotate_half(x1, x2) = (-x2, x1).
template <class T>
void rotate_head(const T* x, const T* table_row, int64_t d, T* y) {
  rotate_pairs(x, table_row, T(1), d, y);
}

// The transposed map: the backward pass of rotate_head.
template <class T>
void rotate_head_inverse(const T* dy, const T* table_row, int64_t d, T* dx) {
  rotate_pairs(dy, table_row, T(-1), d, dx);
}

// What a query or key goes through: the norm where there is a scale, the rotation where there is a row of angles.
template <class E, class T>
void prepare_head(const E* x, const T* scale, const T* angles, int64_t d, T* y) {
  if (scale)
    l2_normalize_head(x, scale, d, y);
  else
    lane_map(d, y, kSelf, x);
  if (angles) rotate_head(y, angles, d, y);
}

}  // namespace rondo::cpu
