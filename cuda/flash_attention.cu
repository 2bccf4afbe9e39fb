// Flash attention forward in bf16 on tensor cores (Dao 2023, FlashAttention-2). A block has 128 rows (query, head), a
// warp 32 of them: scores and sums stay in its registers while tiles of keys and values come by, the next one already
// on its way.
#include "cuda/flash_attention.cuh"

namespace rondo::cuda {
namespace {

constexpr int kM = 2, kRows = 16 * kM * kFlashWarps;
template <int kWidth>
constexpr int kKeys = kWidth <= 64 ? 64 : 32;  // of a tile: as many as registers are left for
constexpr int kFew = 16;                       // of a last tile that has no more

template <int kWidth>
struct Shared {
  MmaTile<kRows, kWidth> queries;
  MmaTile<kKeys<kWidth>, kWidth> keys[2], values[2];
};

// The tile's queries as they are multiplied, in place, and to where the backward pass finds them.
template <int kWidth>
__device__ void prepare_tile(const Geometry<bf16>& g, const QueryTile<kRows>& t, MmaTile<kRows, kWidth>& tile,
                             bf16* queries) {
  for_rows_of_lanes<kRows>([&](int r) {
    bf16* const row = row_of(tile, r);
    const auto q = g.template query<FlashLanes>(row, t.query_of(min(r, t.n - 1)));
    if (r < t.n) prepare_query(q, float(g.s.factor), kWidth, row, queries + (t.row + r) * kWidth);
  });
}

// What is kept of each of a warp's rows while keys come by. Weights are 2^(score log2(e) - base), and out has been
// divided by 2^base, as have the sums of the weights.
template <int kWidth>
struct Walk {
  float bases[kM][2], sums[kM][4] = {};
  Sums<kM, kWidth / 8> out = {};

  __device__ Walk() {
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) bases[i / 2][i % 2] = -INFINITY;  // nothing was seen yet
  }

  // The base is the maximum of a row's scores, or what that was a while ago: it moves, and all that was added up
  // shrinks, where a weight would be beyond 2^8 else. f32 has room for that, and few tiles need it.
  template <int kN>
  __device__ void follow(const float (&scores)[kM][kN][4]) {
    constexpr float kRoom = 8;
    float tops[kM][2];
    bool moves[kM][2], any = false;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float top = -INFINITY;
#pragma unroll
        for (int n = 0; n < kN; ++n) top = fmaxf(top, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));  // four threads have a row
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        tops[m][h] = top * kLog2e;
        moves[m][h] = tops[m][h] > bases[m][h] + kRoom, any = any || moves[m][h];
      }
    if (!__any_sync(~0u, any)) return;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (!moves[m][h]) continue;
        const float shrink = exp2_approximate(bases[m][h] - tops[m][h]);
        bases[m][h] = tops[m][h];
        sums[m][2 * h] *= shrink, sums[m][2 * h + 1] *= shrink;
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) out[m][n][2 * h] *= shrink, out[m][n][2 * h + 1] *= shrink;
      }
  }

  // Adds the values of a tile's keys, weighted by their scores.
  template <int kN, class Values>
  __device__ void add(float (&scores)[kM][kN][4], const Values& values) {
    follow(scores);
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float base = bases[m][h] == -INFINITY ? 0 : bases[m][h];
#pragma unroll
        for (int n = 0; n < kN; ++n)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e)
            scores[m][n][e] = exp2_approximate(fmaf(scores[m][n][e], kLog2e, -base));
      }
    Left<kM, kN / 2> weights;
    round_to_left(scores, weights);
    add_up(weights, sums);
    add_weighted(weights, values, out);
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kFlashThreads, 2)
    flash_forward_kernel(Geometry<bf16> g, const bf16* keys, const bf16* values, bf16* queries, bf16* y, float* lse) {
  Shared<kWidth>& s = shared<Shared<kWidth>>();
  const QueryTile<kRows> t(g, blockIdx.x);
  if (t.n <= 0) return;
  const int d = int(g.s.head_width), row = int(threadIdx.x) / 32 * 16 * kM;
  const auto load = [&](int key, int to) {
    const int64_t at = (t.panel + key) * kWidth;
    copy_rows_async<kFlashThreads>(keys + at, t.last - key, kWidth, s.keys[to]);
    copy_rows_async<kFlashThreads>(values + at, t.last - key, kWidth, s.values[to]);
    copy_commit();
  };
  copy_rows_async<kFlashThreads>(g.q + t.row * d, t.n, d, s.queries);
  load(t.first, 0);

  const Sight sees(g);
  const int last_query = t.query_of(t.n - 1);
  int first_seen[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) first_seen[m][h] = sees.first(t.query_of(row + sum_row(m, 2 * h)));
  constexpr bool kHeld = kWidth <= 64;  // wider ones are read again for each tile
  constexpr int kStep = kKeys<kWidth>;
  Left<kM, kHeld ? kWidth / 16 : 1> held;
  Walk<kWidth> walk;
  const auto step = [&]<int kN>(int key, int at, Count<kN>) {
    Sums<kM, kN> scores = {};
    if constexpr (kHeld)
      add_dots(InRegisters<kM, kWidth / 16>{held}, s.keys[at], scores);
    else
      add_dots(InTile<MmaTile<kRows, kWidth>>{s.queries, row}, s.keys[at], scores);
    if (!sees.whole(t.query, last_query, key, 8 * kN))
      hide(scores, [&](int m, int n, int e) { return sees(first_seen[m][e / 2], key + sum_column(n, e)); });
    walk.add(scores, s.values[at]);
  };
  for (int key = t.first, at = 0; key < t.last; key += kStep, at ^= 1) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and all are done with the last one
    if (key + kStep < t.last) load(key + kStep, at ^ 1);
    if (key == t.first) {
      prepare_tile(g, t, s.queries, queries);
      __syncthreads();
      if constexpr (kHeld) load_left<kM, kWidth / 16>(s.queries, row, held);
    }
    if (t.last - key > kFew)
      step(key, at, Count<kStep / 8>());
    else
      step(key, at, Count<kFew / 8>());
  }

#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float sum = walk.sums[m][2 * h], factor = 1 / sum;  // of rounded weights: lse is within 2^-9
      const int r = row + sum_row(m, 2 * h);
      if (r >= t.n) continue;
      if (threadIdx.x % 4 == 0) lse[t.row + r] = walk.bases[m][h] * kLn2 + std::log(sum);
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n)
        if (const int column = sum_column(n, 0); column < d)
          *reinterpret_cast<uint32_t*>(y + (t.row + r) * d + column) =
              pack_bf16(walk.out[m][n][2 * h] * factor, walk.out[m][n][2 * h + 1] * factor);
    }
}

}  // namespace

void flash_attention_forward(const AttentionShape& how, const AttentionInputs& in, AttentionForward& out) {
  const Geometry<bf16> g(how, in);
  dispatch_tile_width(how.head_width, [&]<int kWidth>() {
    const Prepared<bf16> p(g, kWidth);
    launch({unsigned(g.n_blocks() * g.tiles_per_block(kRows)), kFlashThreads, sizeof(Shared<kWidth>), stream()},
           flash_forward_kernel<kWidth>, g, data<bf16>(p.keys), data<bf16>(p.values), data<bf16>(p.queries),
           data<bf16>(out.y), data<float>(out.lse));
    out.queries = p.queries, out.keys = p.keys, out.values = p.values;
  });
}

}  // namespace rondo::cuda
