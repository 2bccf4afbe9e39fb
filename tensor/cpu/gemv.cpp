// A few rows times the weights, as in decoding: W is read once, where it lies, in whatever type it is kept.
#include <algorithm>

#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace rondo {
namespace {

using cpu::Register;

constexpr int kRows = 4;  // rows of W at once

// A register of numbers at p, widened, exactly, where they are kept narrow.
template <class T>
typename Register<T>::type load(const T* p) {
  return *reinterpret_cast<const typename Register<T>::unaligned*>(p);
}
// Compilers make many instructions of what the processor does in one or two, so these are named.
#if defined(__AVX512F__)
template <class T>
__m512 load(const bf16* p) {  // the upper halves of floats
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
template <class T>
__m512 load(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
#elif defined(__AVX2__)
template <class T>
__m256 load(const bf16* p) {  // the upper halves of floats
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
template <class T>
__m256 load(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
#else
template <class T, class W>
requires(!std::is_same_v<T, W>) typename Register<T>::type load(const W* p) {
  typename Register<T>::type wide;
  for (int64_t v = 0; v < Register<T>::length; ++v) wide[v] = T(p[v]);
  return wide;
}
#endif

// The sum of x[i] w[i], for kRows rows w of width k. Each is one sum in a fixed order, whatever type w is kept in.
template <class T, class W>
void dot_products(int64_t k, const T* x, const W* const* w, T* sums) {
  using V = typename Register<T>::type;
  constexpr int64_t length = Register<T>::length;
  V sum[kRows][2] = {};
  int64_t i = 0;
  for (; i + 2 * length <= k; i += 2 * length) {
    const V x0 = load<T>(x + i), x1 = load<T>(x + i + length);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sum[r][0] += x0 * load<T>(w[r] + i), sum[r][1] += x1 * load<T>(w[r] + i + length);
  }
  for (int r = 0; r < kRows; ++r) {
    const V both = sum[r][0] + sum[r][1];
    T lanes[length];
    for (int64_t v = 0; v < length; ++v) lanes[v] = both[v];
    for (int64_t half = length / 2; half > 0; half /= 2)
      for (int64_t v = 0; v < half; ++v) lanes[v] += lanes[v + half];
    for (int64_t j = i; j < k; ++j) lanes[0] += x[j] * T(w[r][j]);
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
  // One row of x takes W as it is kept; for several it is widened once.
  const bool widen = m > 1 && !std::is_same_v<W, T>;
  parallel_chunks(n, grain, [&](int64_t begin, int64_t end) {
    cpu::Scratch scratch;
    T* widened = widen ? scratch.get<T>(kRows * k) : nullptr;
    for (int64_t j = begin; j < end; j += kRows) {
      const W* rows[kRows];
      const T* wide[kRows] = {};
      for (int64_t r = 0; r < kRows; ++r) {
        rows[r] = ws + std::min(j + r, end - 1) * k;  // the last rows once more, where W has no four left
        if (!widen) continue;
        wide[r] = widened + r * k;
        for (int64_t i = 0; i < k; ++i) widened[r * k + i] = T(rows[r][i]);
      }
      for (int64_t i = 0; i < m; ++i) {
        T sums[kRows];
        widen ? dot_products(k, xs + i * k, wide, sums) : dot_products(k, xs + i * k, rows, sums);
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
