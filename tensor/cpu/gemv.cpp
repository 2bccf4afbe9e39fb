// A few rows times the weights, as in decoding: W is read once, where it lies, in whatever type it is kept.
#include <algorithm>
#include <utility>

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

// The first n numbers at p as the last ones of a register, zeros before them.
template <class T, class W>
typename Register<T>::type load_some(const W* p, int64_t n) {
  W some[Register<T>::length] = {};
  std::copy(p, p + n, some + Register<T>::length - n);
  return load<T>(some);
}

// Halves the sums that lie in a and b, each in s lanes: a sum's lanes p and p + s/2 become one. Those of a come first.
template <int64_t s, class V, int64_t... lane>
V halved(const V& a, const V& b, std::integer_sequence<int64_t, lane...>) {
  constexpr auto place = [](int64_t i) { return i / (s / 2) * s + i % (s / 2); };
  return __builtin_shufflevector(a, b, place(lane)...) + __builtin_shufflevector(a, b, (place(lane) + s / 2)...);
}

// out[i] = the sum of v[i], which lies in s lanes, for all n: registers are paired while there are two of them, so that
// an addition serves many. Each sum is made in the same order.
template <class T, int64_t s, int64_t n>
[[gnu::always_inline]] inline void sum_lanes(typename Register<T>::type* v, T* out) {
  constexpr auto lanes = std::make_integer_sequence<int64_t, Register<T>::length>();
  if constexpr (s == 1) {
#pragma GCC unroll 32
    for (int64_t i = 0; i < n; ++i) reinterpret_cast<typename Register<T>::type*>(out)[i] = v[i];
  } else {
    constexpr int64_t half = (n + 1) / 2;
#pragma GCC unroll 32
    for (int64_t i = 0; i < half; ++i) v[i] = halved<s>(v[2 * i], v[std::min(2 * i + 1, n - 1)], lanes);
    sum_lanes<T, s / 2, half>(v, out);
  }
}

// sums[m * R + r] = the sum of x[m][i] w[r][i], for M rows x and R rows w of width k. Each is one sum in a fixed order,
// whatever M and R are and whatever type w is kept in. Processors foresee long streams, not R short ones: `fetch` asks
// for the R rows that lie behind these.
template <int M, int R, class T, class W>
[[gnu::always_inline]] inline void dot_products(int64_t k, const T* x, const W* w, bool fetch, T* sums) {
  using V = typename Register<T>::type;
  constexpr int64_t length = Register<T>::length, kLine = 64 / int64_t(sizeof(W));
  V sum[M * R] = {};
  const auto add = [&](auto&& load_x, auto&& load_w) {
    V rows[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) rows[m] = load_x(x + m * k);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V wide = load_w(w + r * k);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sum[m * R + r] = cpu::multiply_add(rows[m], wide, sum[m * R + r]);
    }
  };
  int64_t i = 0;
  const auto whole = [&](const auto* row) { return load<T>(row + i); };
  for (; i + length <= k; i += length) {
    if (fetch)
#pragma GCC unroll 8
      for (int64_t line = 0; line < R * length; line += kLine) __builtin_prefetch(w + R * (k + i) + line);
    add(whole, whole);
  }
  // A row's end that fills no register: the last whole one, in which x has zeros where it was counted already.
  const auto rest = [&](const auto* row) { return load_some<T>(row + i, k - i); };
  const auto last = [&](const auto* row) { return load<T>(row + k - length); };
  if (i < k && k >= length)
    add(rest, last);
  else if (i < k)
    add(rest, rest);
  sum_lanes<T, length, M * R>(sum, sums);
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
    alignas(64) T sums[M * R + Register<T>::length];
    dot_products<M, R>(k, x + i * k, w + j * k, i == 0, sums);
    T factor[R], old[R] = {};
    for (int b = 0; b < R; ++b) factor[b] = scale ? scale[j + b] : T(1);
    for (int a = 0; a < M; ++a) {
      T* out = y + (i + a) * n + j;
      if (accumulate) std::copy(out, out + R, old);
      for (int b = 0; b < R; ++b) out[b] = cpu::multiply_add(sums[a * R + b], factor[b], old[b]);
    }
  }
  // One row of x: so few rows of W at a time that they, and those asked for behind them, stay in the first-level cache.
  void one_row(int64_t j, int64_t end) const {
    constexpr int64_t kMost = 12288;  // bytes: with as many behind them, and x, no more than a cache of 32 KB holds
    const bool eight = 8 * k * int64_t(sizeof(W)) <= kMost;
    for (; eight && j + 8 <= end; j += 8) block<1, 8>(0, j);
    for (; j + 4 <= end; j += 4) block<1, 4>(0, j);
    for (; j < end; ++j) block<1, 1>(0, j);
  }
  // A few rows: as many sums as registers hold, of rows of W that stay in the cache for the next rows of x.
  static constexpr int kAcross = cpu::kRegisterBytes == 64 ? 8 : 4;
  template <int R>
  void few_rows(int64_t j) const {
    int64_t i = 0;
    for (; i + 3 <= m; i += 3) block<3, R>(i, j);
    if (i + 2 == m) block<2, R>(i, j);
    if (i + 1 == m) block<1, R>(i, j);
  }
  void columns(int64_t j, int64_t end) const {
    if (m == 1) return one_row(j, end);
    for (; j + kAcross <= end; j += kAcross) few_rows<kAcross>(j);
    for (; j < end; ++j) few_rows<1>(j);
  }
};

template <class T, class W>
void product(const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  const int64_t n = weight.dim(0), k = weight.dim(1), m = n ? y.numel() / n : 0;
  const Product<T, W> all = {
      m, n, k, x.data<T>(), scale ? scale.data<T>() : nullptr, weight.data<W>(), accumulate, y.data<T>()};
  const int64_t work = std::max<int64_t>(1, k * (m + 3) / 4);  // of a column: three rows more cost little
  // Where there is work of a few microseconds, so that a second thread pays, tiles of one: an even number, as equal as
  // can be, so that none waits for the last one.
  constexpr int64_t kShared = 131072 / sizeof(W), kTile = 32768 / sizeof(W);  // weights
  const int64_t tiles = n * work < kShared ? 1 : (n * work / kTile + 1) / 2 * 2;
  const int64_t columns = (n + 8 * tiles - 1) / (8 * tiles) * 8;
  parallel_chunks(n, std::max<int64_t>(8, columns), [&](int64_t j, int64_t end) { all.columns(j, end); });
}

}  // namespace

void gemv(Cpu, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  if (weight.dtype() == DType::bf16) return product<float, bf16>(x, weight, scale, accumulate, y);
  if (weight.dtype() == DType::i8) return product<float, int8_t>(x, weight, scale, accumulate, y);
  dispatch_float(y.dtype(), [&]<class T>() { product<T, T>(x, weight, scale, accumulate, y); });
}

}  // namespace rondo
