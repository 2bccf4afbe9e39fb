// The inner loops of matrix products: register-blocked, over packed panels of B (Goto & van de Geijn 2008; BLIS), in
// the compiler's vector types.
#include "tensor/cpu/gemm.h"

#include <algorithm>

#include "tensor/cpu/gemm_pairs.h"
#include "tensor/cpu/panels.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"

namespace rondo::cpu {
namespace {

// Numbers of the next panel that a group of rows asks for early, for each row of the panel: all groups of a tile ask
// for all of it.
template <class T>
constexpr int64_t kAhead = std::max<int64_t>(1, kPanel<T>* kRows / kTallest);
// A number of either side as the inner loop reads it.
template <class E, class S>
Sum<E> number(S x) {
  return Sum<E>(E(x));
}

// Rows of A as the inner loop reads them: element (r, p) is data[r * stride + p] or, transposed, data[p * stride + r].
// kRows of them are a group; the next group begins `group` further on.
template <class T>
struct Rows {
  const T* data;
  int64_t stride, group;
};

// c [rows, width] (+)= sums.
template <class T>
[[gnu::noinline]] void put_part(int64_t rows, int64_t width, const T* sums, int64_t ld, T* c, int64_t ldc,
                                bool accumulate) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < width; ++j) c[r * ldc + j] = (accumulate ? c[r * ldc + j] : T(0)) + sums[r * ld + j];
}

// C [R, width] (+)= A [R, k] times N vectors a row of a panel, whose rows lie ldb apart. C and what lies at `ahead` are
// asked for early, and of a transposed A the next k columns: no processor foresees lines that lie a row apart.
template <class T, int R, int N, bool Transposed>
void inner(int64_t k, Rows<T> a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t width, bool accumulate,
           const T* ahead) {
  using V = typename Register<T>::type;
  using U = typename Register<T>::unaligned;
  constexpr int64_t length = Register<T>::length;
  V sum[R][N] = {};
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) __builtin_prefetch(c + r * ldc + v * length, 1);
  const auto step = [&](int64_t p) __attribute__((always_inline)) {
    const U* row = reinterpret_cast<const U*>(b + p * ldb);
    if (Transposed) __builtin_prefetch(a.data + (p + k) * a.stride, 0, 2);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T x = Transposed ? a.data[p * a.stride + r] : a.data[r * a.stride + p];
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sum[r][v] += x * row[v];
    }
  };
  constexpr int64_t kLine = 64 / sizeof(T);  // what is asked for at once
  int64_t p = 0;
  for (; p < k * kAhead<T> / kLine; ++p) __builtin_prefetch(ahead + p * kLine, 0, 2), step(p);
  for (; p < k; ++p) step(p);
  if (width == N * length) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) {
        U& y = *reinterpret_cast<U*>(c + r * ldc + v * length);
        y = accumulate ? V(y) + sum[r][v] : sum[r][v];
      }
  } else {  // by way of memory: taking the sums apart in place would keep them out of the registers
    alignas(kRegisterBytes) T lanes[R * N * length];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) *reinterpret_cast<V*>(lanes + (r * N + v) * length) = sum[r][v];
    put_part(R, width, lanes, N * length, c, ldc, accumulate);
  }
}

// The last rows of C, fewer than R.
template <class T, int R, int N, bool Transposed>
void remainder(int64_t rows, int64_t k, Rows<T> a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t width,
               bool accumulate) {
  if constexpr (R > 1) {
    if (rows == R - 1) return inner<T, R - 1, N, Transposed>(k, a, b, ldb, c, ldc, width, accumulate, b);
    remainder<T, R - 1, N, Transposed>(rows, k, a, b, ldb, c, ldc, width, accumulate);
  }
}

// All rows of C for one panel. Each group of them asks for a share of the panel behind it.
template <class T, int N, bool Transposed>
void panel_product(int64_t m, int64_t k, Rows<T> a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t width,
                   bool accumulate) {
  const T* ahead = b + k * ldb;
  for (; m >= kRows; m -= kRows, a.data += a.group, c += kRows * ldc, ahead += k * kAhead<T>)
    inner<T, kRows, N, Transposed>(k, a, b, ldb, c, ldc, width, accumulate, ahead);
  remainder<T, kRows, N, Transposed>(m, k, a, b, ldb, c, ldc, width, accumulate);
}

// The one for panels of that many columns.
template <class T, int N = kAcross>
auto panel_product_of(int64_t columns, bool transposed) {
  if constexpr (N > 1)
    if (columns <= (N - 1) * Register<T>::length) return panel_product_of<T, N - 1>(columns, transposed);
  return transposed ? panel_product<T, N, true> : panel_product<T, N, false>;
}

// A [m, k] copied to where each group of rows lies together, transposed: [k][kRows], group after group.
template <class E>
void gather(int64_t m, int64_t k, View<E> a, Sum<E>* to) {
  for (int64_t i = 0; i < m; i += kRows, to += kRows * k) {
    const int64_t rows = std::min<int64_t>(kRows, m - i);
    const E* from = a.data + i * a.row;
    if constexpr (std::is_same_v<E, Sum<E>>) {
      // Eight at once: the next ones overwrite what was too many.
      static_assert(kRows <= 8);
      typedef E Eight __attribute__((vector_size(8 * sizeof(E)), aligned(sizeof(E)), may_alias));
      if (a.row == 1 && i + 8 <= m) {
        for (int64_t p = 0; p < k; ++p)
          *reinterpret_cast<Eight*>(to + p * kRows) = *reinterpret_cast<const Eight*>(from + p * a.col);
        continue;
      }
    }
    for (int64_t p = 0; p < k; ++p)
      for (int64_t r = 0; r < rows; ++r) to[p * kRows + r] = number<E>(from[r * a.row + p * a.col]);
  }
}

}  // namespace

template <class E>
int64_t panel_columns() {
  return in_pairs<E>() ? pairs::kPanelColumns : kPanel<Sum<E>>;
}
template <class E>
int64_t column_step() {
  return in_pairs<E>() ? pairs::kPanelColumns : Register<Sum<E>>::length;
}
template <class E>
int64_t packed_size(int64_t k, int64_t n) {
  return (in_pairs<E>() ? pairs::depth(k) : k) * padded<Sum<E>>(n);
}

// to[p][j] = from[p * row + j * col], for lines j that lie apart: by squares of registers where each is in one piece.
template <class E, class S, class T>
void pack_lines(int64_t depth, int64_t width, View<S> b, T* to, int64_t wide) {
  using U = typename Register<T>::unaligned;
  constexpr int64_t side = Register<T>::length;
  int64_t done = 0;
  if constexpr (std::is_same_v<S, T> && std::is_same_v<E, T>)
    for (; b.row == 1 && width % side == 0 && done + side <= depth; done += side)
      for (int64_t j = 0; j < width; j += side) {
        typename Register<T>::type rows[side];
#pragma GCC unroll 16
        for (int64_t r = 0; r < side; ++r) rows[r] = *reinterpret_cast<const U*>(b.data + (j + r) * b.col + done);
        transpose_square<T>(rows);
#pragma GCC unroll 16
        for (int64_t r = 0; r < side; ++r) *reinterpret_cast<U*>(to + (done + r) * wide + j) = rows[r];
      }
  for (int64_t j = 0; j < width; ++j)
    for (int64_t p = done; p < depth; ++p) to[p * wide + j] = number<E>(b.data[p * b.row + j * b.col]);
}

// Layout: blocks of kDepth rows; in a block, panel after panel; in a panel, row after row, zeros behind the last
// column.
template <class E, class S>
void pack_panels(int64_t k, int64_t n, View<S> b, Sum<E>* packed, int64_t first_panel, int64_t last_panel) {
  using T = Sum<E>;
  if constexpr (std::is_same_v<E, bf16>)
    if (in_pairs<E>()) return pairs::pack_panels(k, n, b, packed, first_panel, last_panel);
  for (int64_t p0 = 0; p0 < k; p0 += kDepth) {
    const int64_t depth = std::min(kDepth, k - p0);
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t j0 = panel * kPanel<T>, wide = panel_width<T>(n, kPanel<T>, panel), width = std::min(wide, n - j0);
      T* to = packed + p0 * padded<T>(n) + j0 * depth;
      const S* from = b.data + p0 * b.row + j0 * b.col;
      if (b.col == 1 && width == kPanel<T>) {
        for (int64_t p = 0; p < depth; ++p)
          for (int64_t j = 0; j < kPanel<T>; ++j) to[p * wide + j] = number<E>(from[p * b.row + j]);
      } else if (b.col == 1) {
        for (int64_t p = 0; p < depth; ++p)
          for (int64_t j = 0; j < width; ++j) to[p * wide + j] = number<E>(from[p * b.row + j]);
      } else {
        pack_lines<E>(depth, width, View<S>{from, b.row, b.col}, to, wide);
      }
      if (width < wide)
        for (int64_t p = 0; p < depth; ++p) std::fill(to + p * wide + width, to + (p + 1) * wide, T(0));
    }
  }
}
template <class E, class S>
void pack(int64_t k, int64_t n, View<S> b, Sum<E>* packed) {
  pack_panels<E>(k, n, b, packed, 0, n_panels(n, panel_columns<E>()));
}

template <class E, class S>
Right<E> right_side(int64_t k, int64_t n, View<S> b, Sum<E>* space) {
  using T = Sum<E>;
  if constexpr (std::is_same_v<E, T> && std::is_same_v<S, T>)
    if (b.col == 1 && k * n <= kNumbersReadInPlace) {
      const int64_t panels = n_panels(n, kPanel<T>);
      pack_panels<E>(k, n, b, space, n % Register<T>::length ? panels - 1 : panels, panels);
      return {space, b.data, b.row};
    }
  pack<E>(k, n, b, space);
  return {space};
}

template <class E>
void gemm_part(int64_t m, int64_t n, int64_t k, View<E> a, Right<E> b, Sum<E>* c, int64_t ldc, bool accumulate,
               const Part& part) {
  using T = Sum<E>;
  const auto [first, last, first_column, last_column] = part;
  if (first == last && !accumulate)
    for (int64_t i = 0; i < m; ++i) std::fill(c + i * ldc + first_column, c + i * ldc + std::min(n, last_column), T(0));
  if constexpr (std::is_same_v<E, bf16>)
    if (in_pairs<E>()) return pairs::gemm_packed(m, n, k, a, b.packed, c, ldc, accumulate, part);
  // A transposed A is read where it lies when only a few columns ask for it: copying it together would not pay.
  const bool in_place =
      std::is_same_v<E, T> && (a.col == 1 || (a.row == 1 && last_column - first_column <= kColumnsReadInPlace));
  Scratch scratch;
  T* gathered = in_place ? nullptr : scratch.get<T>((m + kRows) * kDepth);
  for (int64_t p0 = first / kDepth * kDepth; p0 < last; p0 += kDepth) {
    const int64_t depth = std::min(kDepth, k - p0), from = std::max(first, p0), to = std::min(last, p0 + depth);
    const View<E> block = {a.data + (from - first) * a.col, a.row, a.col};
    Rows<T> rows = {gathered, kRows, kRows * (to - from)};
    if (gathered)
      gather(m, to - from, block, gathered);
    else if constexpr (std::is_same_v<E, T>)
      rows = a.col == 1 ? Rows<T>{block.data, a.row, kRows * a.row} : Rows<T>{block.data, a.col, kRows};
    const bool transposed = gathered || a.col != 1;
    for (int64_t j = first_column, next; j < last_column; j = next) {
      const int64_t panel = j / kPanel<T>, j0 = panel * kPanel<T>, wide = panel_width<T>(n, kPanel<T>, panel);
      next = std::min(j0 + kPanel<T>, last_column);
      const int64_t width = std::min(next, n) - j;
      const bool lies = b.plain && j0 + wide <= n;
      const T* panel_b =
          lies ? b.plain + from * b.row + j : b.packed + p0 * padded<T>(n) + j0 * depth + (from - p0) * wide + j - j0;
      const auto product = panel_product_of<T>(width, transposed);
      product(m, to - from, rows, panel_b, lies ? b.row : wide, c + j, ldc, width, accumulate || from > first);
    }
  }
}
template <class E, class S>
void gemm(int64_t m, int64_t n, int64_t k, View<E> a, View<S> b, Sum<E>* c, int64_t ldc, bool accumulate) {
  Scratch scratch;
  const Right<E> right = right_side<E>(k, n, b, scratch.get<Sum<E>>(packed_size<E>(k, n)));
  gemm_part(m, n, k, a, right, c, ldc, accumulate, {0, k, 0, n});
}

template int64_t panel_columns<float>();
template int64_t panel_columns<double>();
template int64_t panel_columns<bf16>();
template int64_t column_step<float>();
template int64_t column_step<double>();
template int64_t column_step<bf16>();
template int64_t packed_size<float>(int64_t, int64_t);
template int64_t packed_size<double>(int64_t, int64_t);
template int64_t packed_size<bf16>(int64_t, int64_t);
template void pack<float>(int64_t, int64_t, View<float>, float*);
template void pack<double>(int64_t, int64_t, View<double>, double*);
template void pack<bf16>(int64_t, int64_t, View<float>, float*);
template void pack<bf16>(int64_t, int64_t, View<bf16>, float*);
template Right<float> right_side(int64_t, int64_t, View<float>, float*);
template Right<double> right_side(int64_t, int64_t, View<double>, double*);
template Right<bf16> right_side(int64_t, int64_t, View<float>, float*);
template Right<bf16> right_side(int64_t, int64_t, View<bf16>, float*);
template void gemm(int64_t, int64_t, int64_t, View<float>, View<float>, float*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<double>, View<double>, double*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<bf16>, View<bf16>, float*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<bf16>, View<float>, float*, int64_t, bool);
template void gemm_part(int64_t, int64_t, int64_t, View<float>, Right<float>, float*, int64_t, bool, const Part&);
template void gemm_part(int64_t, int64_t, int64_t, View<double>, Right<double>, double*, int64_t, bool, const Part&);
template void gemm_part(int64_t, int64_t, int64_t, View<bf16>, Right<bf16>, float*, int64_t, bool, const Part&);
}  // namespace rondo::cpu
