// Matrix products over all threads: C is cut into tiles, which gemm_panels.cpp and gemm_pairs.cpp make.
#include "tensor/cpu/gemm.h"

#include <algorithm>

#include "tensor/cpu/gemm_pairs.h"
#include "tensor/cpu/lanes.h"
#include "tensor/cpu/panels.h"
#include "tensor/cpu/round.h"
#include "tensor/cpu/scratch.h"
#include "tensor/device.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

constexpr int64_t kFlopsWorthATile = 200'000;
// Numbers of a B that each thread prepares for itself. Of a larger one, as many are packed by one tile of work.
constexpr int64_t kPackedAtOnce = 32768;
// A k that is cut into parts, products of their own: the least depth of a part, the most parts, the multiple at which
// they begin, and the largest C for which it is done.
constexpr int64_t kPart = 512, kMostParts = 8, kStep = 256, kSmall = 65536;

// C = base + A B, or A B where there is no base. Often base is C itself; if not, its rows lie as C's do. This is for a
// part [m, n]: product(sums, ld) adds to sums that begin as base, in C itself, or in scratch memory that is rounded to
// C at the end.
template <class C, class F>
void with_sums(int64_t m, int64_t n, C* c, int64_t ldc, const C* base, const F& product) {
  if constexpr (std::is_same_v<C, bf16>) {
    cpu::Scratch scratch;
    float* sums = scratch.get<float>(m * n);
    for (int64_t i = 0; base && i < m; ++i) cpu::lane_map(n, sums + i * n, cpu::kSelf, base + i * ldc);
    product(sums, n);
    for (int64_t i = 0; i < m; ++i) cpu::round_row(n, sums + i * n, c + i * ldc);
  } else {
    for (int64_t i = 0; base && base != c && i < m; ++i) cpu::lane_map(n, c + i * ldc, cpu::kSelf, base + i * ldc);
    product(c, ldc);
  }
}

// The same in parts of k, each a product of its own; then they are added in their order. Where k is long and C small,
// as in the gradient of a weight: the thread that needs a part of B packs it, and what it packed is in its cache.
template <class E, class T = cpu::Sum<E>>
void split_depth(int64_t m, int64_t n, int64_t k, cpu::View<E> a, cpu::View<E> b, T* c, int64_t ldc, const T* base) {
  const int64_t most = kMostParts * kStep, part = std::max(kPart, (k + most - 1) / most * kStep);
  const int64_t parts = (k + part - 1) / part;
  cpu::Scratch scratch;
  T* sums = scratch.get<T>(parts * m * n);
  parallel_for(parts, [&](int64_t i) {
    const int64_t p = i * part;
    cpu::gemm(m, n, std::min(part, k - p), cpu::View<E>{a.data + p * a.col, a.row, a.col},
              cpu::View<E>{b.data + p * b.row, b.row, b.col}, sums + i * m * n, n, false);
  });
  parallel_chunks(m, std::max<int64_t>(1, 8192 / n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* sum = sums + i * n;
      for (int64_t p = 1; p < parts; ++p) cpu::lane_map(n, sum, cpu::kSum, sum, sum + p * m * n);
      if (base)
        cpu::lane_map(n, c + i * ldc, cpu::kSum, base + i * ldc, sum);
      else
        cpu::lane_map(n, c + i * ldc, cpu::kSelf, sum);
    }
  });
}

// How C is cut into tiles of so many rows and panels: how many tiles there are down and across, and which way they are
// counted.
struct Tiling {
  int64_t rows, panels, down, across;
  bool down_first;
};
template <class E>
Tiling tiling_of(int64_t m, int64_t n, bool transposed, bool small) {
  struct {  // the highest and widest tiles, how many there should be, and multiples of how many rows
    int64_t rows, columns, tiles, row_step;
  } wanted = {cpu::kTallest, 512, small ? 8 : 16, cpu::kRows};
  if (transposed && !cpu::in_pairs<E>()) wanted.rows = 2 * cpu::kTallest, wanted.tiles = 8;
  bool down_first = !small;
  if constexpr (std::is_same_v<E, bf16>)
    if (cpu::in_pairs<E>()) {
      if (cpu::pairs::instructions() == cpu::pairs::Instructions::amx) wanted = {256, 256, 8, cpu::pairs::kRowStep};
      // Each thread begins with what it packed itself: its rows of A, or its panels of B, whichever are more.
      down_first = m < n;
    }
  const int64_t columns = cpu::panel_columns<E>(), panels = cpu::n_panels(n, columns);
  Tiling t = {wanted.rows, std::min<int64_t>(panels, wanted.columns / columns), 0, 0, down_first};
  const auto count = [&] { t.down = (m + t.rows - 1) / t.rows, t.across = (panels + t.panels - 1) / t.panels; };
  // Where there would be too few tiles, narrower ones, then shorter ones: each panel is read from far away once for all
  // rows of a tile.
  for (count(); t.across * t.down < wanted.tiles && t.panels * columns > cpu::kColumnsReadInPlace; count())
    t.panels = (t.panels + 1) / 2;
  t.rows = std::clamp<int64_t>(m * t.across / wanted.tiles, 32, t.rows) / wanted.row_step * wanted.row_step;
  count();
  return t;
}

// Where pairs of bf16 cannot be read from A as it lies, packs its rows by all threads; returns how long they are then.
template <class E>
int64_t pack_left(int64_t m, int64_t k, cpu::View<E>& a, cpu::Scratch& scratch) {
  if constexpr (std::is_same_v<E, bf16>)
    if (cpu::in_pairs<E>() && !cpu::pairs::readable(k, a)) {
      const int64_t length = cpu::pairs::row_length(k);
      bf16* rows = scratch.get<bf16>(m * length);
      parallel_chunks(m, 128, [&](int64_t i, int64_t j) {
        cpu::pairs::pack_rows(j - i, k, {a.data + i * a.row, a.row, a.col}, rows + i * length);
      });
      a = {rows, length, 1};
      return cpu::pairs::packed_k(k);
    }
  return k;
}

// B packed by all threads.
template <class E, class S, class T = cpu::Sum<E>>
const T* pack_right(int64_t k, int64_t n, cpu::View<S> b, cpu::Scratch& scratch) {
  const int64_t columns = cpu::panel_columns<E>();
  T* const packed = scratch.get<T>(cpu::packed_size<E>(k, n));
  parallel_chunks(cpu::n_panels(n, columns), std::max<int64_t>(1, kPackedAtOnce / (k * columns)),
                  [&](int64_t p, int64_t q) { cpu::pack_panels<E>(k, n, b, packed, p, q); });
  return packed;
}

// One product over all threads: C is cut into tiles of rows and panels. A small B is prepared by each thread for
// itself, and a thread's tiles are rows of C: what it reads is then mostly what it wrote before, in its own cache. A
// large B is packed by all threads together, and so is A where pairs of bf16 cannot be read as they lie.
template <class E, class S, class C>
void split(int64_t m, int64_t n, int64_t k, cpu::View<E> a, cpu::View<S> b, C* c, int64_t ldc, const C* base) {
  using T = cpu::Sum<E>;
  if (2 * m * n * k < 2 * kFlopsWorthATile)
    return with_sums(m, n, c, ldc, base, [&](T* to, int64_t ld) { cpu::gemm(m, n, k, a, b, to, ld, base != nullptr); });
  const bool transposed = a.col != 1, small = k * cpu::padded<T>(n) <= kPackedAtOnce;
  if constexpr (std::is_same_v<S, E> && std::is_same_v<C, T>)  // the types of a weight's gradient
    if (transposed && k > kPart && m * n <= kSmall) return split_depth(m, n, k, a, b, c, ldc, base);
  cpu::Scratch scratch;
  const int64_t depth = pack_left(m, k, a, scratch);
  const T* const packed = small ? nullptr : pack_right<E>(k, n, b, scratch);
  const Tiling t = tiling_of<E>(m, n, transposed, small);
  const int64_t columns = t.panels * cpu::panel_columns<E>();
  parallel_parts(t.down * t.across, [&](Tiles& tiles) {
    cpu::Scratch own;
    const cpu::Right<E> right =
        small ? cpu::right_side<E>(k, n, b, own.get<T>(cpu::packed_size<E>(k, n))) : cpu::Right<E>{packed};
    for (int64_t tile = tiles.next(); tile >= 0; tile = tiles.next()) {
      const int64_t i = (t.down_first ? tile % t.down : tile / t.across) * t.rows,
                    j = (t.down_first ? tile / t.down : tile % t.across) * columns;
      const int64_t height = std::min(t.rows, m - i), width = std::min(columns, n - j), corner = i * ldc + j;
      with_sums(height, width, c + corner, ldc, base ? base + corner : nullptr, [&](T* to, int64_t ld) {
        cpu::gemm_part<E>(height, n, depth, {a.data + i * a.row, a.row, a.col}, right, to - j, ld, base != nullptr,
                          {0, depth, j, j + width});
      });
    }
  });
}

// a is E, b is S, c and base, if there is one, are C.
template <class E, class S, class C>
void products(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& base, const Tensor& c) {
  const auto run = [&](int64_t i, auto&& product) {
    const E* pa = a.data<E>() + i * g.stride_a;
    const S* pb = b.data<S>() + i * g.stride_b;
    const cpu::View<E> va = g.transpose_a ? cpu::View<E>{pa, 1, g.lda} : cpu::View<E>{pa, g.lda, 1};
    const cpu::View<S> vb = g.transpose_b ? cpu::View<S>{pb, 1, g.ldb} : cpu::View<S>{pb, g.ldb, 1};
    product(va, vb, c.data<C>() + i * g.stride_c, base ? base.data<C>() + i * g.stride_c : nullptr);
  };
  if (g.batch == 1)
    return run(0, [&](auto va, auto vb, C* pc, const C* from) { split(g.m, g.n, g.k, va, vb, pc, g.ldc, from); });
  parallel_for(g.batch, [&](int64_t i) {
    run(i, [&](auto va, auto vb, C* pc, const C* from) {
      with_sums(g.m, g.n, pc, g.ldc, from,
                [&](auto* to, int64_t ld) { cpu::gemm(g.m, g.n, g.k, va, vb, to, ld, from != nullptr); });
    });
  });
}

// base may be empty.
void multiply(const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& base, const Tensor& c) {
  if (c.numel() == 0) return;  // no place in it may be computed, as it may have no memory
  dispatch_activation(a.dtype(), [&]<class E>() {
    if constexpr (!std::is_same_v<E, bf16>) return products<E, E, E>(how, a, b, base, c);
    const bool from_f32 = b.dtype() == DType::f32, to_f32 = c.dtype() == DType::f32;
    if (from_f32 && to_f32) return products<bf16, float, float>(how, a, b, base, c);
    if (from_f32) return products<bf16, float, bf16>(how, a, b, base, c);
    if (to_f32) return products<bf16, bf16, float>(how, a, b, base, c);
    products<bf16, bf16, bf16>(how, a, b, base, c);
  });
}

}  // namespace

void gemm(Cpu, const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& c) {
  multiply(how, a, b, how.accumulate ? c : Tensor(), c);
}
void gemm_onto(Cpu, const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& base, const Tensor& c) {
  multiply(how, a, b, base, c);
}

std::string describe_cpu() {
  using cpu::pairs::Instructions;
  const Instructions of_bf16 = cpu::pairs::instructions();
  return cpu::kRegisterName + std::string(of_bf16 == Instructions::amx      ? ", AMX"
                                          : of_bf16 == Instructions::avx512 ? ", AVX512-BF16"
                                                                            : "");
}

bool multiplies_bf16(Cpu) { return cpu::pairs::available(); }

}  // namespace rondo
