// Matrix products: a register-blocked inner loop over packed panels of B (Goto & van de Geijn 2008; BLIS), in the
// compiler's vector types, and its split over threads. The one place where products are made.
#include "tensor/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace cpu {
namespace {

// How many rows of C the inner loop keeps in registers.
constexpr int kRows = kRegisterBytes == 64 ? 12 : kRegisterBytes == 32 ? 6 : 4;
constexpr int64_t kDepth = 256;  // k is cut into blocks of this: a panel of B stays in the first-level cache
constexpr int64_t kPanelsReadInPlace = 4;

template <class T>
constexpr int64_t kPanel = 2 * Register<T>::length;  // columns of a panel; the last one may be half as wide

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

// Rows of A as the inner loop reads them: element (r, p) is data[r * stride + p] or, transposed, data[p * stride + r].
// kRows of them are a group; the next group begins `group` further on.
template <class T>
struct Rows {
  const T* data;
  int64_t stride, group;
};

// C [R, width] (+)= A [R, k] times a panel of N vectors a row.
template <class T, int R, int N, bool Transposed>
void inner(int64_t k, Rows<T> a, const T* b, T* c, int64_t ldc, int64_t width, bool accumulate) {
  using V = typename Register<T>::type;
  using U = typename Register<T>::unaligned;
  constexpr int64_t length = Register<T>::length;
  V sum[R][N] = {};
  for (int64_t p = 0; p < k; ++p) {
    const V* row = reinterpret_cast<const V*>(b + p * N * length);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const T x = Transposed ? a.data[p * a.stride + r] : a.data[r * a.stride + p];
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) sum[r][v] += x * row[v];
    }
  }
  if (width == N * length) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) {
        U& y = *reinterpret_cast<U*>(c + r * ldc + v * length);
        y = accumulate ? V(y) + sum[r][v] : sum[r][v];
      }
  } else {  // by way of memory: taking the sums apart in place would keep them out of the registers
    alignas(kRegisterBytes) T lanes[R * N * length];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) *reinterpret_cast<V*>(lanes + (r * N + v) * length) = sum[r][v];
    for (int r = 0; r < R; ++r)
      for (int64_t j = 0; j < width; ++j)
        c[r * ldc + j] = (accumulate ? c[r * ldc + j] : T(0)) + lanes[r * N * length + j];
  }
}

// The last rows of C, fewer than R.
template <class T, int R, int N, bool Transposed>
void remainder(int64_t rows, int64_t k, Rows<T> a, const T* b, T* c, int64_t ldc, int64_t width, bool accumulate) {
  if constexpr (R > 1) {
    if (rows == R - 1) return inner<T, R - 1, N, Transposed>(k, a, b, c, ldc, width, accumulate);
    remainder<T, R - 1, N, Transposed>(rows, k, a, b, c, ldc, width, accumulate);
  }
}

// All rows of C for one panel.
template <class T, int N, bool Transposed>
void panel_product(int64_t m, int64_t k, Rows<T> a, const T* b, T* c, int64_t ldc, int64_t width, bool accumulate) {
  for (; m >= kRows; m -= kRows, a.data += a.group, c += kRows * ldc)
    inner<T, kRows, N, Transposed>(k, a, b, c, ldc, width, accumulate);
  remainder<T, kRows, N, Transposed>(m, k, a, b, c, ldc, width, accumulate);
}

// A [m, k] copied to where each group of rows lies together, transposed: [k][kRows], group after group.
template <class T>
void gather(int64_t m, int64_t k, View<T> a, T* to) {
  for (int64_t i = 0; i < m; i += kRows, to += kRows * k) {
    const int64_t rows = std::min<int64_t>(kRows, m - i);
    const T* from = a.data + i * a.row;
    if (a.row == 1 && rows == kRows) {
      for (int64_t p = 0; p < k; ++p) std::memcpy(to + p * kRows, from + p * a.col, kRows * sizeof(T));
    } else {
      for (int64_t p = 0; p < k; ++p)
        for (int64_t r = 0; r < rows; ++r) to[p * kRows + r] = from[r * a.row + p * a.col];
    }
  }
}

}  // namespace

template <class T>
int64_t panel_columns() {
  return kPanel<T>;
}
template <class T>
int64_t packed_size(int64_t k, int64_t n) {
  return k * padded<T>(n);
}

// Layout: blocks of kDepth rows; in a block, panel after panel; in a panel, row after row, zeros behind the last
// column.
template <class T>
void pack_panels(int64_t k, int64_t n, View<T> b, T* packed, int64_t first_panel, int64_t last_panel) {
  for (int64_t p0 = 0; p0 < k; p0 += kDepth) {
    const int64_t depth = std::min(kDepth, k - p0);
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t j0 = panel * kPanel<T>, wide = panel_width<T>(n, panel), width = std::min(wide, n - j0);
      T* to = packed + p0 * padded<T>(n) + j0 * depth;
      const T* from = b.data + p0 * b.row + j0 * b.col;
      if (b.col == 1 && width == kPanel<T>) {
        for (int64_t p = 0; p < depth; ++p) std::memcpy(to + p * wide, from + p * b.row, kPanel<T> * sizeof(T));
      } else if (b.col == 1) {
        for (int64_t p = 0; p < depth; ++p) std::copy(from + p * b.row, from + p * b.row + width, to + p * wide);
      } else {
        for (int64_t j = 0; j < width; ++j)
          for (int64_t p = 0; p < depth; ++p) to[p * wide + j] = from[p * b.row + j * b.col];
      }
      if (width < wide)
        for (int64_t p = 0; p < depth; ++p) std::fill(to + p * wide + width, to + (p + 1) * wide, T(0));
    }
  }
}
template <class T>
void pack(int64_t k, int64_t n, View<T> b, T* packed) {
  pack_panels(k, n, b, packed, 0, n_panels<T>(n));
}

template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, View<T> a, const T* packed_b, T* c, int64_t ldc, bool accumulate,
                 const Part& part) {
  const auto [first, last, first_panel, last_panel] = part;
  if (first == last && !accumulate)
    for (int64_t i = 0; i < m; ++i)
      std::fill(c + i * ldc + first_panel * kPanel<T>, c + i * ldc + std::min(n, last_panel * kPanel<T>), T(0));
  // A transposed A is read where it lies when only a few panels ask for it: copying it together would not pay.
  const bool in_place = a.col == 1 || (a.row == 1 && last_panel - first_panel <= kPanelsReadInPlace);
  Scratch scratch;
  T* gathered = in_place ? nullptr : scratch.get<T>((m + kRows) * kDepth);
  for (int64_t p0 = first / kDepth * kDepth; p0 < last; p0 += kDepth) {
    const int64_t depth = std::min(kDepth, k - p0), from = std::max(first, p0), to = std::min(last, p0 + depth);
    const View<T> block = {a.data + (from - first) * a.col, a.row, a.col};
    if (gathered) gather<T>(m, to - from, block, gathered);
    const Rows<T> rows = gathered     ? Rows<T>{gathered, kRows, kRows * (to - from)}
                         : a.col == 1 ? Rows<T>{block.data, a.row, kRows * a.row}
                                      : Rows<T>{block.data, a.col, kRows};
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t j0 = panel * kPanel<T>, wide = panel_width<T>(n, panel), width = std::min(wide, n - j0);
      const bool two = wide == kPanel<T>;
      const auto product = a.col == 1 ? (two ? panel_product<T, 2, false> : panel_product<T, 1, false>)
                                      : (two ? panel_product<T, 2, true> : panel_product<T, 1, true>);
      product(m, to - from, rows, packed_b + p0 * padded<T>(n) + j0 * depth + (from - p0) * wide, c + j0, ldc, width,
              accumulate || from > first);
    }
  }
}
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, View<T> a, View<T> b, T* c, int64_t ldc, bool accumulate) {
  Scratch scratch;
  T* packed = scratch.get<T>(packed_size<T>(k, n));
  pack(k, n, b, packed);
  gemm_packed(m, n, k, a, packed, c, ldc, accumulate, {0, k, 0, n_panels<T>(n)});
}

}  // namespace cpu

namespace {

// One product over all threads: B is packed by panels, then C is cut into tiles of rows and panels.
template <class T>
void split(int64_t m, int64_t n, int64_t k, cpu::View<T> a, cpu::View<T> b, T* c, int64_t ldc, bool accumulate) {
  constexpr int64_t kFlopsWorthATile = 200'000;
  const int64_t flops = 2 * m * n * k, panels = cpu::n_panels<T>(n);
  if (flops < 2 * kFlopsWorthATile) return cpu::gemm(m, n, k, a, b, c, ldc, accumulate);
  cpu::Scratch scratch;
  T* packed = scratch.get<T>(cpu::packed_size<T>(k, n));
  const int64_t pack_grain = std::max<int64_t>(1, 32768 / (k * cpu::kPanel<T>));
  parallel_chunks(panels, pack_grain, [&](int64_t p, int64_t q) { cpu::pack_panels(k, n, b, packed, p, q); });

  // Tiles of 24 to 96 rows and up to 512 columns; fewer columns where there would be less than 16 tiles.
  int64_t panels_per_tile = std::min<int64_t>(panels, 512 / cpu::kPanel<T>), across, down, rows;
  for (;; panels_per_tile = (panels_per_tile + 1) / 2) {
    across = (panels + panels_per_tile - 1) / panels_per_tile;
    rows = std::clamp<int64_t>(m * across / 16, 4 * cpu::kRows, 96) / cpu::kRows * cpu::kRows;
    down = (m + rows - 1) / rows;
    if (across * down >= 16 || panels_per_tile <= cpu::kPanelsReadInPlace) break;
  }
  parallel_for(across * down, [&](int64_t tile) {
    const int64_t i = tile % down * rows, panel = tile / down * panels_per_tile;
    cpu::gemm_packed<T>(std::min(rows, m - i), n, k, {a.data + i * a.row, a.row, a.col}, packed, c + i * ldc, ldc,
                        accumulate, {0, k, panel, std::min(panels, panel + panels_per_tile)});
  });
}

}  // namespace

void gemm(Cpu, const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) {
  dispatch_float(c.dtype(), [&]<class T>() {
    const auto run = [&](int64_t i, auto&& product) {
      const T *pa = a.data<T>() + i * g.stride_a, *pb = b.data<T>() + i * g.stride_b;
      const cpu::View<T> va = g.transpose_a ? cpu::View<T>{pa, 1, g.lda} : cpu::View<T>{pa, g.lda, 1};
      const cpu::View<T> vb = g.transpose_b ? cpu::View<T>{pb, 1, g.ldb} : cpu::View<T>{pb, g.ldb, 1};
      product(g.m, g.n, g.k, va, vb, c.data<T>() + i * g.stride_c, g.ldc, g.accumulate);
    };
    if (g.batch == 1) return run(0, [](auto... arguments) { split<T>(arguments...); });
    parallel_for(g.batch, [&](int64_t i) { run(i, [](auto... arguments) { cpu::gemm<T>(arguments...); }); });
  });
}

namespace cpu {
template int64_t panel_columns<float>();
template int64_t panel_columns<double>();
template int64_t packed_size<float>(int64_t, int64_t);
template int64_t packed_size<double>(int64_t, int64_t);
template void pack(int64_t, int64_t, View<float>, float*);
template void pack(int64_t, int64_t, View<double>, double*);
template void gemm(int64_t, int64_t, int64_t, View<float>, View<float>, float*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, View<double>, View<double>, double*, int64_t, bool);
template void gemm_packed(int64_t, int64_t, int64_t, View<float>, const float*, float*, int64_t, bool, const Part&);
template void gemm_packed(int64_t, int64_t, int64_t, View<double>, const double*, double*, int64_t, bool, const Part&);
}  // namespace cpu

}  // namespace rondo
