// Matrix products: a register-blocked inner loop over packed panels of B (Goto & van de Geijn 2008; BLIS), in the
// compiler's vector types, and its split over threads. The one place where products are made.
#include "tensor/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "tensor/cpu/gemm_pairs.h"
#include "tensor/cpu/panels.h"
#include "tensor/cpu/round.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/device.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace cpu {
namespace {

// How many rows of C the inner loop keeps in registers.
constexpr int kRows = kRegisterBytes >= 32 ? 6 : kRegisters / 4;
constexpr int64_t kTallest = 96;  // rows of a tile
// Numbers of the next panel that a group of rows asks for early, for each row of the panel: all groups of a tile ask
// for all of it.
template <class T>
constexpr int64_t kAhead = std::max<int64_t>(1, kPanel<T>* kRows / kTallest);
// Columns for which a transposed A is read where it lies.
constexpr int64_t kColumnsReadInPlace = 128;

// Whether these products are left to the processor's own instructions for bf16. Where there are none, bf16 is widened.
template <class E>
bool in_pairs() {
  return std::is_same_v<E, bf16> && pairs::available();
}
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

// C [R, width] (+)= A [R, k] times N vectors a row of a panel, whose rows lie ldb apart. C and what lies at `ahead` are
// asked for early.
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
    const V* row = reinterpret_cast<const V*>(b + p * ldb);
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
    for (int r = 0; r < R; ++r)
      for (int64_t j = 0; j < width; ++j)
        c[r * ldc + j] = (accumulate ? c[r * ldc + j] : T(0)) + lanes[r * N * length + j];
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

template <class E>
void gemm_packed(int64_t m, int64_t n, int64_t k, View<E> a, const Sum<E>* packed_b, Sum<E>* c, int64_t ldc,
                 bool accumulate, const Part& part) {
  using T = Sum<E>;
  const auto [first, last, first_column, last_column] = part;
  if (first == last && !accumulate)
    for (int64_t i = 0; i < m; ++i) std::fill(c + i * ldc + first_column, c + i * ldc + std::min(n, last_column), T(0));
  if constexpr (std::is_same_v<E, bf16>)
    if (in_pairs<E>()) return pairs::gemm_packed(m, n, k, a, packed_b, c, ldc, accumulate, part);
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
      const auto product = panel_product_of<T>(width, transposed);
      product(m, to - from, rows, packed_b + p0 * padded<T>(n) + j0 * depth + (from - p0) * wide + j - j0, wide, c + j,
              ldc, width, accumulate || from > first);
    }
  }
}
template <class E, class S>
void gemm(int64_t m, int64_t n, int64_t k, View<E> a, View<S> b, Sum<E>* c, int64_t ldc, bool accumulate) {
  Scratch scratch;
  Sum<E>* packed = scratch.get<Sum<E>>(packed_size<E>(k, n));
  pack<E>(k, n, b, packed);
  gemm_packed(m, n, k, a, packed, c, ldc, accumulate, {0, k, 0, n});
}

}  // namespace cpu

namespace {

// A part of C [m, n] as products make it, in sums: C itself, or scratch memory that is rounded to C at the end.
template <class C, class F>
void with_sums(int64_t m, int64_t n, C* c, int64_t ldc, const F& product) {
  if constexpr (std::is_same_v<C, bf16>) {
    cpu::Scratch scratch;
    float* sums = scratch.get<float>(m * n);
    product(sums, n);
    for (int64_t i = 0; i < m; ++i) cpu::round_row(n, sums + i * n, c + i * ldc);
  } else {
    product(c, ldc);
  }
}

// How C is cut into tiles: the highest and widest ones, how many there should be, and multiples of how many rows.
struct Cut {
  int64_t rows, columns, tiles, row_step;
};

// One product over all threads: B is packed by panels, and A by rows where pairs of bf16 cannot be read as they lie;
// then C is cut into tiles of rows and panels.
template <class E, class S, class C>
void split(int64_t m, int64_t n, int64_t k, cpu::View<E> a, cpu::View<S> b, C* c, int64_t ldc, bool accumulate) {
  using T = cpu::Sum<E>;
  constexpr int64_t kFlopsWorthATile = 200'000;
  const int64_t flops = 2 * m * n * k, columns = cpu::panel_columns<E>(), panels = cpu::n_panels(n, columns);
  if (flops < 2 * kFlopsWorthATile)
    return with_sums(m, n, c, ldc, [&](T* to, int64_t ld) { cpu::gemm(m, n, k, a, b, to, ld, accumulate); });
  cpu::Scratch scratch;
  T* packed = scratch.get<T>(cpu::packed_size<E>(k, n));
  const int64_t pack_grain = std::max<int64_t>(1, 32768 / (k * columns));
  parallel_chunks(panels, pack_grain, [&](int64_t p, int64_t q) { cpu::pack_panels<E>(k, n, b, packed, p, q); });
  Cut cut = {cpu::kTallest, 512, 16, cpu::kRows};
  bool down_first = true;
  if constexpr (std::is_same_v<E, bf16>)
    if (cpu::in_pairs<E>()) {
      if (cpu::pairs::instructions() == cpu::pairs::Instructions::amx) cut = {256, 256, 8, cpu::pairs::kRowStep};
      // Each thread begins with what it packed itself: its rows of A, or its panels of B, whichever are more.
      down_first = m < n;
      if (!cpu::pairs::readable(k, a)) {
        const int64_t length = cpu::pairs::row_length(k);
        bf16* rows = scratch.get<bf16>(m * length);
        parallel_chunks(m, 128, [&](int64_t i, int64_t j) {
          cpu::pairs::pack_rows(j - i, k, {a.data + i * a.row, a.row, a.col}, rows + i * length);
        });
        a = {rows, length, 1}, k = cpu::pairs::packed_k(k);
      }
    }

  // Where there would be too few tiles, narrower ones, then shorter ones: each panel is read from far away once for all
  // rows of a tile.
  int64_t panels_per_tile = std::min<int64_t>(panels, cut.columns / columns), rows = cut.rows;
  const auto across = [&] { return (panels + panels_per_tile - 1) / panels_per_tile; };
  const auto down = [&] { return (m + rows - 1) / rows; };
  while (across() * down() < cut.tiles && panels_per_tile * columns > cpu::kColumnsReadInPlace)
    panels_per_tile = (panels_per_tile + 1) / 2;
  rows = std::clamp<int64_t>(m * across() / cut.tiles, 32, rows) / cut.row_step * cut.row_step;
  parallel_for(across() * down(), [&](int64_t tile) {
    const int64_t i = (down_first ? tile % down() : tile / across()) * rows,
                  j = (down_first ? tile / down() : tile % across()) * panels_per_tile * columns;
    const int64_t height = std::min(rows, m - i), width = std::min(panels_per_tile * columns, n - j);
    with_sums(height, width, c + i * ldc + j, ldc, [&](T* to, int64_t ld) {
      cpu::gemm_packed<E>(height, n, k, {a.data + i * a.row, a.row, a.col}, packed, to - j, ld, accumulate,
                          {0, k, j, j + width});
    });
  });
}

// a is E, b is S, c is C.
template <class E, class S, class C>
void products(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) {
  const auto run = [&](int64_t i, auto&& product) {
    const E* pa = a.data<E>() + i * g.stride_a;
    const S* pb = b.data<S>() + i * g.stride_b;
    const cpu::View<E> va = g.transpose_a ? cpu::View<E>{pa, 1, g.lda} : cpu::View<E>{pa, g.lda, 1};
    const cpu::View<S> vb = g.transpose_b ? cpu::View<S>{pb, 1, g.ldb} : cpu::View<S>{pb, g.ldb, 1};
    product(va, vb, c.data<C>() + i * g.stride_c);
  };
  if (g.batch == 1)
    return run(0, [&](auto va, auto vb, C* pc) { split(g.m, g.n, g.k, va, vb, pc, g.ldc, g.accumulate); });
  parallel_for(g.batch, [&](int64_t i) {
    run(i, [&](auto va, auto vb, C* pc) {
      with_sums(g.m, g.n, pc, g.ldc,
                [&](auto* to, int64_t ld) { cpu::gemm(g.m, g.n, g.k, va, vb, to, ld, g.accumulate); });
    });
  });
}

}  // namespace

void gemm(Cpu, const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) {
  dispatch_activation(a.dtype(), [&]<class E>() {
    if constexpr (!std::is_same_v<E, bf16>) return products<E, E, E>(g, a, b, c);
    const bool from_f32 = b.dtype() == DType::f32, to_f32 = c.dtype() == DType::f32;
    if (from_f32 && to_f32) return products<bf16, float, float>(g, a, b, c);
    if (from_f32) return products<bf16, float, bf16>(g, a, b, c);
    if (to_f32) return products<bf16, bf16, float>(g, a, b, c);
    products<bf16, bf16, bf16>(g, a, b, c);
  });
}

std::string describe_cpu() {
  using cpu::pairs::Instructions;
  const Instructions of_bf16 = cpu::pairs::instructions();
  return cpu::kRegisterName + std::string(of_bf16 == Instructions::amx      ? ", AMX"
                                          : of_bf16 == Instructions::avx512 ? ", AVX512-BF16"
                                                                            : "");
}

bool multiplies_bf16(Cpu) { return cpu::pairs::available(); }

namespace cpu {
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
template void gemm(int64_t, int64_t, int64_t, View<float>, View<float>, float*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<double>, View<double>, double*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<bf16>, View<bf16>, float*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<bf16>, View<float>, float*, int64_t, bool);
template void gemm_packed(int64_t, int64_t, int64_t, View<float>, const float*, float*, int64_t, bool, const Part&);
template void gemm_packed(int64_t, int64_t, int64_t, View<double>, const double*, double*, int64_t, bool, const Part&);
template void gemm_packed(int64_t, int64_t, int64_t, View<bf16>, const float*, float*, int64_t, bool, const Part&);
}  // namespace cpu

}  // namespace rondo
