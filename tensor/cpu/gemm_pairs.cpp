#include "tensor/cpu/gemm_pairs.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "tensor/cpu/panels.h"
#include "tensor/cpu/round.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/tiles.h"

#if defined(__AVX512F__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rondo::cpu::pairs {
namespace {

constexpr int64_t kPairsDeep = 256;   // as kDepth in panels.h
constexpr int64_t kSide = 16;         // of the squares by which pairs are transposed
constexpr int64_t kGroup = kRowStep;  // rows of C that tiles make at a time
static_assert(kGroup == 2 * kTileRows && kPanelColumns == 2 * kTilePairs);
constexpr int64_t kLine = 64;  // bytes of the cache that go together

std::vector<Instructions> find_instructions() {
  std::vector<Instructions> found = {Instructions::none};
#if defined(__AVX512F__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return found;
  found.push_back(Instructions::avx512);
  __get_cpuid_count(7, 0, &a, &b, &c, &d);
  const bool tiles = (d >> 22 & 1) && (d >> 24 & 1);  // AMX-BF16, AMX-TILE
  constexpr long kAskFor = 0x1023, kTileData = 18;    // Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  if (tiles && syscall(SYS_arch_prctl, kAskFor, kTileData) == 0) found.push_back(Instructions::amx);
#endif
  return found;
}
std::atomic<Instructions>& used() {
  static std::atomic<Instructions> which = find_instructions().back();
  return which;
}

// n numbers as they are in pairs of neighbours. Who wrote uint32_t there before did it bytewise: the compiler does not
// expect bf16 in their place.
void put_pairs(int64_t n, const float* x, uint32_t* to) { round_row(n, x, reinterpret_cast<bf16*>(to)); }
void put_pairs(int64_t n, const bf16* x, uint32_t* to) { std::memcpy(to, x, size_t(n) * sizeof(bf16)); }

// Pairs are transposed by squares in the cache, so that both sides go line by line.
struct alignas(64) Square {
  uint32_t rows[kSide][kSide];

  void transpose() {
    if constexpr (Register<float>::length == kSide) {
      using V = Register<float>::type;
      V lines[kSide];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kSide; ++i) lines[i] = *reinterpret_cast<const V*>(rows[i]);
      transpose_square<float>(lines);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kSide; ++i) *reinterpret_cast<V*>(rows[i]) = lines[i];
    } else {
      for (int64_t i = 0; i < kSide; ++i)
        for (int64_t j = 0; j < i; ++j) std::swap(rows[i][j], rows[j][i]);
    }
  }
};

// to[i][j] = the pair (2 i, 2 i + 1) of line j, for n_pairs pairs of n lines of `k` numbers, `stride` apart. What lies
// beyond k is 0. Rows of `to` are `ld` pairs.
template <class S>
void transpose(int64_t n, int64_t n_pairs, int64_t k, const S* lines, int64_t stride, uint32_t* to, int64_t ld) {
  Square square;
  for (int64_t i0 = 0; i0 < n_pairs; i0 += kSide) {
    const int64_t down = std::min(kSide, n_pairs - i0), here = std::clamp<int64_t>(k - 2 * i0, 0, 2 * kSide);
    for (int64_t j0 = 0; j0 < n; j0 += kSide) {
      const int64_t across = std::min(kSide, n - j0);
      if (here < 2 * kSide || across < kSide) std::memset(square.rows, 0, sizeof square.rows);
      for (int64_t j = 0; j < across; ++j) put_pairs(here, lines + (j0 + j) * stride + 2 * i0, square.rows[j]);
      square.transpose();
      for (int64_t i = 0; i < down; ++i) std::memcpy(to + (i0 + i) * ld + j0, square.rows[i], size_t(across) * 4);
    }
  }
}

template <class S>
uint32_t bits(S x) {
  return bf16(x).bits;
}
// to[j] = the pair (low[j], high[j]).
template <class S>
void interleave(int64_t n, const S* low, const S* high, uint32_t* to) {
  for (int64_t j = 0; j < n; ++j) to[j] = bits(low[j]) | (high ? bits(high[j]) << 16 : 0);
}

#if defined(__AVX512F__)
constexpr int kRows = 12;  // of C, that the inner loop keeps in registers

// C [R, width] (+)= A [R, k] times a panel of N registers of pairs a row.
template <int R, int N>
__attribute__((target("avx512bf16"))) void inner(int64_t k, const bf16* a, int64_t stride, const uint32_t* b, float* c,
                                                 int64_t ldc, int64_t width, bool accumulate) {
  __m512 sum[R][N] = {};
  const auto add = [&](int64_t p, auto&& load_pair) __attribute__((target("avx512bf16"))) {
    __m512bh row[N];
#pragma GCC unroll 2
    for (int v = 0; v < N; ++v) row[v] = (__m512bh)_mm512_load_si512(b + (p * N + v) * 16);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(int(load_pair(a + r * stride + 2 * p)));
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, row[v]);
    }
  };
  const auto both = [](const bf16* at) {
    uint32_t x;
    __builtin_memcpy(&x, at, 4);
    return x;
  };
  for (int64_t p = 0; p < k / 2; ++p) add(p, both);
  if (k % 2) add(k / 2, [](const bf16* at) { return uint32_t{at->bits}; });
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < N; ++v) {
      const int64_t here = std::clamp<int64_t>(width - 16 * v, 0, 16);
      const __mmask16 mask = __mmask16((1u << here) - 1);
      float* to = c + r * ldc + 16 * v;
      const __m512 before = accumulate ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(to, mask, before + sum[r][v]);
    }
}

// All rows of C for one panel.
template <int R, int N>
void panel_product(int64_t m, int64_t k, const bf16* a, int64_t stride, const uint32_t* b, float* c, int64_t ldc,
                   int64_t width, bool accumulate) {
  for (; m >= R; m -= R, a += R * stride, c += R * ldc) inner<R, N>(k, a, stride, b, c, ldc, width, accumulate);
  if constexpr (R > 1) panel_product<R - 1, N>(m, k, a, stride, b, c, ldc, width, accumulate);
}

// The same by tiles. A is padded with zeros to whole tiles, and so is C here where it is no whole one.
template <int N>
RONDO_TILES void product_by_tiles(int64_t m, int64_t k, const bf16* a, int64_t stride, const uint32_t* b, float* c,
                                  int64_t ldc, int64_t width, bool accumulate) {
  constexpr int64_t columns = N * kTilePairs;
  const int64_t n_pairs = (k / 2 + kTilePairs - 1 + k % 2) / kTilePairs * kTilePairs;
  // Each group of rows asks for a share of the panel behind this one, and for the next group's sums.
  const int64_t lines = (kTilePairs * N * kGroup + m - 1) / m;
  const uint32_t* ahead = b + n_pairs * columns;
  TileRegisters::open();
  for (int64_t i = 0; i < m; i += kGroup, a += kGroup * stride, c += kGroup * ldc, ahead += lines * n_pairs) {
    if (accumulate && m - i > kGroup)
      for (int64_t r = 0; r < kGroup; ++r)
        for (int64_t v = 0; v < N; ++v) __builtin_prefetch(c + (kGroup + r) * ldc + v * kTilePairs, 1);
    if (m - i >= kGroup && width == columns) {
      tile_product<TileRegisters, N>(n_pairs, a, stride, b, c, ldc, accumulate, ahead, lines);
      continue;
    }
    alignas(64) float whole[kGroup * columns];
    tile_product<TileRegisters, N>(n_pairs, a, stride, b, whole, columns, false, ahead, lines);
    for (int64_t r = 0; r < std::min(kGroup, m - i); ++r)
      for (int64_t j = 0; j < width; ++j) c[r * ldc + j] = (accumulate ? c[r * ldc + j] : 0) + whole[r * columns + j];
  }
  TileRegisters::close();
}
#else
// Never called: there are no instructions() for them.
template <int R, int N>
void panel_product(int64_t, int64_t, const bf16*, int64_t, const uint32_t*, float*, int64_t, int64_t, bool) {}
template <int N>
void product_by_tiles(int64_t, int64_t, const bf16*, int64_t, const uint32_t*, float*, int64_t, int64_t, bool) {}
constexpr int kRows = 12;
#endif

}  // namespace

std::span<const Instructions> found_instructions() {
  static const std::vector<Instructions> found = find_instructions();
  return found;
}
Instructions instructions() { return used().load(std::memory_order_relaxed); }
void use_instructions(Instructions one_of_those_found) { used() = one_of_those_found; }

int64_t depth(int64_t k) {
  const int64_t n_pairs = (k + 1) / 2;
  return instructions() == Instructions::amx ? (n_pairs + kTilePairs - 1) / kTilePairs * kTilePairs : n_pairs;
}

// As in gemm.h, a row holding pairs.
template <class S>
void pack_panels(int64_t k, int64_t n, View<S> b, float* packed, int64_t first_panel, int64_t last_panel) {
  const int64_t n_pairs = depth(k);
  for (int64_t p0 = 0; p0 < n_pairs; p0 += kPairsDeep) {
    const int64_t rows = std::min(kPairsDeep, n_pairs - p0), left = k - 2 * p0;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const int64_t j0 = panel * kPanelColumns, wide = panel_width<float>(n, kPanelColumns, panel),
                    width = std::min(wide, n - j0);
      uint32_t* to = reinterpret_cast<uint32_t*>(packed) + p0 * padded<float>(n) + j0 * rows;
      const S* from = b.data + 2 * p0 * b.row + j0 * b.col;
      if (b.row == 1)
        transpose(width, rows, left, from, b.col, to, wide);
      else
        for (int64_t p = 0; p < rows; ++p)
          if (2 * p < left)
            interleave(width, from + 2 * p * b.row, 2 * p + 1 < left ? from + (2 * p + 1) * b.row : nullptr,
                       to + p * wide);
          else
            std::fill(to + p * wide, to + (p + 1) * wide, 0);
      if (width < wide)
        for (int64_t p = 0; p < rows; ++p) std::fill(to + p * wide + width, to + (p + 1) * wide, 0);
    }
  }
}

// Tiles ask for whole lines.
bool readable(int64_t k, View<bf16> a) {
  if (a.col != 1 || instructions() != Instructions::amx) return a.col == 1;
  return reinterpret_cast<uintptr_t>(a.data) % kLine == 0 && a.row * int64_t(sizeof(bf16)) % kLine == 0 &&
         k % (2 * kTilePairs) == 0;
}

int64_t packed_k(int64_t k) { return 2 * depth(k); }
// An odd number of lines: rows below each other lie in different places of the cache.
int64_t row_length(int64_t k) {
  const int64_t lines = (packed_k(k) * int64_t(sizeof(bf16)) + kLine - 1) / kLine;
  return (lines + 1 - lines % 2) * kLine / int64_t(sizeof(bf16));
}

void pack_rows(int64_t m, int64_t k, View<bf16> a, bf16* to) {
  const int64_t n_pairs = (k + 1) / 2, length = row_length(k);
  for (int64_t r = 0; r < m; ++r) std::fill(to + r * length + k, to + (r + 1) * length, bf16());
  if (a.col == 1) {
    for (int64_t r = 0; r < m; ++r) std::memcpy(to + r * length, a.data + r * a.row, size_t(k) * sizeof(bf16));
    return;
  }
  Square square;
  for (int64_t p0 = 0; p0 < n_pairs; p0 += kSide) {
    const int64_t across = std::min(kSide, n_pairs - p0);
    for (int64_t r0 = 0; r0 < m; r0 += kSide) {
      const int64_t down = std::min(kSide, m - r0);
      for (int64_t p = 0; p < across; ++p) {
        const bf16* line = a.data + r0 + 2 * (p0 + p) * a.col;
        interleave(down, line, 2 * (p0 + p) + 1 < k ? line + a.col : nullptr, square.rows[p]);
      }
      square.transpose();
      for (int64_t r = 0; r < down; ++r)
        std::memcpy(to + (r0 + r) * length + 2 * p0, square.rows[r], size_t(across) * 4);
    }
  }
}

void gemm_packed(int64_t m, int64_t n, int64_t k, View<bf16> a, const float* packed_b, float* c, int64_t ldc,
                 bool accumulate, const Part& part) {
  const auto [first, last, first_column, last_column] = part;
  const bool tiles = instructions() == Instructions::amx;
  const int64_t n_pairs = depth(k), first_pair = first / 2, last_pair = (last + 1) / 2;
  Scratch scratch;
  bf16* packed_a = nullptr;
  for (int64_t p0 = first_pair / kPairsDeep * kPairsDeep; p0 < last_pair; p0 += kPairsDeep) {
    const int64_t rows = std::min(kPairsDeep, n_pairs - p0), from = std::max(first_pair, p0),
                  to = std::min(last_pair, p0 + rows), length = std::min(last, 2 * to) - 2 * from;
    const View<bf16> block = {a.data + (2 * from - first) * a.col, a.row, a.col};
    // Tiles read whole groups of rows.
    const int64_t here = !readable(length, block) ? 0 : tiles ? m / kGroup * kGroup : m, left = m - here;
    if (left > 0) {  // with room for a whole group; what its last rows hold does not matter
      if (!packed_a) packed_a = scratch.get<bf16>((m + kGroup) * row_length(2 * kPairsDeep));
      pack_rows(left, length, {block.data + here * a.row, a.row, a.col}, packed_a);
    }
    for (int64_t j0 = first_column; j0 < last_column; j0 += kPanelColumns) {
      const int64_t wide = panel_width<float>(n, kPanelColumns, j0 / kPanelColumns), width = std::min(wide, n - j0);
      const uint32_t* right =
          reinterpret_cast<const uint32_t*>(packed_b) + p0 * padded<float>(n) + j0 * rows + (from - p0) * wide;
      const auto product = tiles ? (wide == kPanelColumns ? product_by_tiles<2> : product_by_tiles<1>)
                                 : (wide == kPanelColumns ? panel_product<kRows, 2> : panel_product<kRows, 1>);
      const bool add = accumulate || from > first_pair;
      if (here > 0) product(here, length, block.data, a.row, right, c + j0, ldc, width, add);
      if (left > 0) product(left, length, packed_a, row_length(length), right, c + here * ldc + j0, ldc, width, add);
    }
  }
}

template void pack_panels(int64_t, int64_t, View<float>, float*, int64_t, int64_t);
template void pack_panels(int64_t, int64_t, View<bf16>, float*, int64_t, int64_t);

}  // namespace rondo::cpu::pairs
