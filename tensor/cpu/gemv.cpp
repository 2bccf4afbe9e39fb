// A few rows times the weights, as in decoding: W is read once, where it lies, in whatever type it is kept.
#include <algorithm>

#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

using cpu::Register;

constexpr int kRows = 4;  // rows of W at once

// The sum of x[i] w[i], for kRows rows w of width k. Each is one sum in a fixed order.
template <class T>
void dot_products(int64_t k, const T* x, const T* const* w, T* sums) {
  using V = typename Register<T>::type;
  using U = const typename Register<T>::unaligned;
  constexpr int64_t length = Register<T>::length;
  const auto load = [](const T* p) { return V(*reinterpret_cast<U*>(p)); };
  V sum[kRows][2] = {};
  int64_t i = 0;
  for (; i + 2 * length <= k; i += 2 * length) {
    const V x0 = load(x + i), x1 = load(x + i + length);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sum[r][0] += x0 * load(w[r] + i), sum[r][1] += x1 * load(w[r] + i + length);
  }
  for (int r = 0; r < kRows; ++r) {
    const V both = sum[r][0] + sum[r][1];
    T lanes[length];
    for (int64_t v = 0; v < length; ++v) lanes[v] = both[v];
    for (int64_t half = length / 2; half > 0; half /= 2)
      for (int64_t v = 0; v < half; ++v) lanes[v] += lanes[v + half];
    for (int64_t j = i; j < k; ++j) lanes[0] += x[j] * w[r][j];
    sums[r] = lanes[0];
  }
}

template <class T, class W>
void product(const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  const int64_t k = weight.dim(1), n = weight.dim(0), m = k ? x.numel() / k : 0;
  const T *xs = x.data<T>(), *scales = scale ? scale.data<T>() : nullptr;
  const W* ws = weight.data<W>();
  T* ys = y.data<T>();
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, k) / kRows) * kRows;
  parallel_chunks(n, grain, [&](int64_t begin, int64_t end) {
    cpu::Scratch scratch;
    T* widened = std::is_same_v<W, T> ? nullptr : scratch.get<T>(kRows * k);
    for (int64_t j = begin; j < end; j += kRows) {
      const T* rows[kRows];
      T sums[kRows];
      for (int64_t r = 0; r < kRows; ++r) {
        const W* row = ws + std::min(j + r, end - 1) * k;  // the last rows once more, where W has no four left
        if constexpr (std::is_same_v<W, T>) {
          rows[r] = row;
        } else {
          T* wide = widened + r * k;
          for (int64_t i = 0; i < k; ++i) wide[i] = T(row[i]);
          rows[r] = wide;
        }
      }
      for (int64_t i = 0; i < m; ++i) {
        dot_products(k, xs + i * k, rows, sums);
        T* out = ys + i * n + j;
        for (int64_t r = 0; r < std::min<int64_t>(kRows, end - j); ++r)
          out[r] = (accumulate ? out[r] : T(0)) + (scales ? sums[r] * scales[j + r] : sums[r]);
      }
    }
  });
}

}  // namespace

void gemv(Cpu, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  if (weight.dtype() == DType::bf16) return product<float, bf16>(x, weight, scale, accumulate, y);
  if (weight.dtype() == DType::i8) return product<float, int8_t>(x, weight, scale, accumulate, y);
  dispatch_float(y.dtype(), [&]<class T>() { product<T, T>(x, weight, scale, accumulate, y); });
}

}  // namespace rondo
