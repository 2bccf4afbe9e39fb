// What flash attention in bf16 shares, forward and backward: sizes, operands, and what a row sees.
#pragma once
#include "cuda/attention.cuh"
#include "cuda/mma.cuh"

namespace rondo::cuda {

inline constexpr int kFlashWarps = 4, kFlashThreads = 32 * kFlashWarps;
inline constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// Calls f.operator()<width>() with the width of the tiles that heads of d numbers go into, zeros behind them.
template <class F>
void dispatch_tile_width(int64_t d, F&& f) {
  if (d <= 32) return f.template operator()<32>();
  if (d <= 64) return f.template operator()<64>();
  f.template operator()<kFlashWidth>();
}

// f(r) for the rows of a tile that a thread has together with its neighbours, before the products and behind them.
using FlashLanes = PackLanes<bf16>;
inline constexpr int kRowGroups = kFlashThreads / FlashLanes::kCount;
template <int kRows, class F>
__device__ void for_rows_of_lanes(const F& f) {
  static_assert(kRows % kRowGroups == 0);
#pragma unroll
  for (int r = 0; r < kRows; r += kRowGroups) f(r + int(threadIdx.x) / FlashLanes::kCount);
}
// Row r of a tile, as numbers.
template <class Tile>
__device__ bf16* row_of(Tile& tile, int r) {
  return reinterpret_cast<bf16*>(tile.rows[r]);
}

// Scores that are not seen, as seen(m, n, e) says, weigh nothing.
template <int kM, int kN, class F>
__device__ void hide(float (&scores)[kM][kN][4], const F& seen) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (!seen(m, n, e)) scores[m][n][e] = -INFINITY;
}

// Which keys a query sees, of those that its block has at all: W of them, beginning behind the query's own place in the
// panel's first half; or all of its group.
struct Sight {
  int step, width;

  template <class E>
  __device__ explicit Sight(const Geometry<E>& g) : step(g.s.window), width(int(g.s.window ? g.s.width : g.s.keys)) {}
  __device__ int first(int query) const { return (query + 1) * step; }
  __device__ bool operator()(int first, int key) const { return unsigned(key - first) < unsigned(width); }
  // Whether all of the queries from..to see all of the keys key..key+n-1.
  __device__ bool whole(int from, int to, int key, int n) const {
    return key >= first(to) && key + n <= first(from) + width;
  }
  // The queries that see all of the keys key..key+n-1; keys behind a group's last count as seen.
  __device__ Span of_all(int key, int n) const { return step ? Span{key + n - 1 - width, key} : Span{0, 1 << 20}; }
};

}  // namespace rondo::cuda
