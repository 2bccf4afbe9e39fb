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

// The first n numbers at p as a register, zeros behind them.
template <class T, class W>
typename Register<T>::type load_some(const W* p, int64_t n) {
  W some[Register<T>::length] = {};
  std::copy(p, p + n, some);
  return load<T>(some);
}

// sums[m][r] = the sum of x[m][i] w[r][i], for M rows x and R rows w of width k. Each is one sum in a fixed order,
// whatever M and R are and whatever type w is kept in.
template <int M, int R, class T, class W>
void dot_products(int64_t k, const T* x, const W* w, T sums[M][R]) {
  using V = typename Register<T>::type;
  constexpr int64_t length = Register<T>::length;
  V sum[M][R] = {};
  const auto add = [&](auto&& load_x, auto&& load_w) {
    V rows[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) rows[m] = load_x(x + m * k);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V wide = load_w(w + r * k);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sum[m][r] = cpu::multiply_add(rows[m], wide, sum[m][r]);
    }
  };
  int64_t i = 0;
  const auto whole = [&](const auto* row) { return load<T>(row + i); };
  const auto rest = [&](const auto* row) { return load_some<T>(row + i, k - i); };
  for (; i + length <= k; i += length) add(whole, whole);
  if (i < k) add(rest, rest);
  for (int m = 0; m < M; ++m)
    for (int r = 0; r < R; ++r) {
      T lanes[length];
      for (int64_t v = 0; v < length; ++v) lanes[v] = sum[m][r][v];
      for (int64_t half = length / 2; half > 0; half /= 2)
        for (int64_t v = 0; v < half; ++v) lanes[v] += lanes[v + half];
      sums[m][r] = lanes[0];
    }
}

// One product, to be cut into rows of W.
template <class T, class W>
struct Product {
  int64_t m, n, k;
  const T *x, *scale;  // scale may be null
  const W* w;
  bool accumulate;
  T* y;

  // The columns j..j+R-1 of the rows i..i+M-1 of y.
  template <int M, int R>
  void block(int64_t i, int64_t j) const {
    T sums[M][R];
    dot_products<M, R>(k, x + i * k, w + j * k, sums);
    for (int a = 0; a < M; ++a)
      for (int b = 0; b < R; ++b) {
        T& out = y[(i + a) * n + j + b];
        out = cpu::multiply_add(sums[a][b], scale ? scale[j + b] : T(1), accumulate ? out : T(0));
      }
  }
  // As many sums as registers hold: few rows of x and four of W, which stay in the cache for the next rows of x; eight
  // of W where there is one row of x, so that reading W is all that takes time.
  template <int R>
  void columns(int64_t j) const {
    int64_t i = 0;
    for (; i + 3 <= m; i += 3) block<3, R>(i, j);
    if (i + 2 == m) block<2, R>(i, j);
    if (i + 1 == m) block<1, R>(i, j);
  }
  void columns(int64_t j, int64_t end) const {
    for (; m == 1 && j + 8 <= end; j += 8) block<1, 8>(0, j);
    for (; j + 4 <= end; j += 4) columns<4>(j);
    for (; j < end; ++j) columns<1>(j);
  }
};

template <class T, class W>
void product(const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  const int64_t n = weight.dim(0), k = weight.dim(1), m = k ? x.numel() / k : 0;
  const Product<T, W> all = {
      m, n, k, x.data<T>(), scale ? scale.data<T>() : nullptr, weight.data<W>(), accumulate, y.data<T>()};
  const int64_t work = std::max<int64_t>(1, k * (m + 3) / 4);  // of a column: three rows more cost little
  parallel_chunks(n, std::max<int64_t>(8, 65536 / work / 8 * 8), [&](int64_t j, int64_t end) { all.columns(j, end); });
}

}  // namespace

void gemv(Cpu, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  if (weight.dtype() == DType::bf16) return product<float, bf16>(x, weight, scale, accumulate, y);
  if (weight.dtype() == DType::i8) return product<float, int8_t>(x, weight, scale, accumulate, y);
  dispatch_float(y.dtype(), [&]<class T>() { product<T, T>(x, weight, scale, accumulate, y); });
}

}  // namespace rondo
