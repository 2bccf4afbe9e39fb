// Flash attention forward in bf16 on tensor cores (Dao 2023, FlashAttention-2). A block has 128 rows (query, head), a
// warp 32 of them: scores and sums stay in its registers while keys and values come by, 64 at a time, the next ones
// already on their way.
#include "cuda/flash_attention.cuh"

namespace rondo::cuda {
namespace {

constexpr int kM = 2, kRows = 16 * kM * kFlashWarps;
template <int kWidth>
constexpr int kKeys = kWidth <= 64 ? 64 : 32;  // of a tile: as many as registers are left for

template <int kWidth>
struct Shared {
  MmaTile<kRows, kWidth> queries;
  MmaTile<kKeys<kWidth>, kWidth> keys[2], values[2];
};

// The weights of a tile of scores, in place, and how their rows' sums go on: a row has `tops` as its maximum so far.
template <int kN, int kOut>
__device__ void softmax_step(float (&scores)[kM][kN][4], float (&tops)[kM][2], float (&sums)[kM][2],
                             float (&out)[kM][kOut][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = tops[m][h];
#pragma unroll
      for (int n = 0; n < kN; ++n) top = fmaxf(top, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));  // four threads have a row
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      const float base = top == -INFINITY ? 0 : top * kLog2e;  // nothing was seen yet
      const float shrink = exp2_approximate(tops[m][h] * kLog2e - base);
      tops[m][h] = top, sums[m][h] *= shrink;
#pragma unroll
      for (int n = 0; n < kOut; ++n) out[m][n][2 * h] *= shrink, out[m][n][2 * h + 1] *= shrink;
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          scores[m][n][e] = exp2_approximate(fmaf(scores[m][n][e], kLog2e, -base));
          sums[m][h] += scores[m][n][e];
        }
    }
}

template <int kWidth>
__global__ void __launch_bounds__(kFlashThreads, 2)
    flash_forward_kernel(Geometry<bf16> g, const bf16* queries, const bf16* keys, const bf16* values, bf16* y,
                         float* lse) {
  Shared<kWidth>& s = shared<Shared<kWidth>>();
  const QueryTile<kRows> t(g, blockIdx.x);
  if (t.n <= 0) return;
  const int d = int(g.s.head_width), heads = int(g.s.heads), row = int(threadIdx.x) / 32 * 16 * kM;
  const auto load = [&](int key, int to) {
    const int64_t at = (t.panel + key) * kWidth;
    copy_rows_async<kFlashThreads>(keys + at, t.last - key, kWidth, s.keys[to]);
    copy_rows_async<kFlashThreads>(values + at, t.last - key, kWidth, s.values[to]);
    copy_commit();
  };
  copy_rows_async<kFlashThreads>(queries + t.row * kWidth, t.n, kWidth, s.queries);
  load(t.first, 0);

  const Sight sees(g);
  const int last_query = t.query + (t.head + t.n - 1) / heads;
  int first_seen[kM][2];
  float tops[kM][2], sums[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      first_seen[m][h] = sees.first(t.query + (t.head + row + sum_row(m, 2 * h)) / heads);
      tops[m][h] = -INFINITY, sums[m][h] = 0;
    }
  constexpr bool kHeld = kWidth <= 64;  // wider ones are read again for each tile
  constexpr int kStep = kKeys<kWidth>;
  Left<kM, kHeld ? kWidth / 16 : 1> held;
  Sums<kM, kWidth / 8> out = {};

  for (int key = t.first, at = 0; key < t.last; key += kStep, at ^= 1) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and all are done with the last one
    if (key + kStep < t.last) load(key + kStep, at ^ 1);
    Sums<kM, kStep / 8> scores = {};
    if constexpr (kHeld) {
      if (key == t.first) load_left<kM, kWidth / 16>(s.queries, row, held);
      add_dots(InRegisters<kM, kWidth / 16>{held}, s.keys[at], scores);
    } else {
      add_dots(InTile<MmaTile<kRows, kWidth>>{s.queries, row}, s.keys[at], scores);
    }
    if (!sees.whole(t.query, last_query, key, kStep))
      hide(scores, [&](int m, int n, int e) { return sees(first_seen[m][e / 2], key + sum_column(n, e)); });
    softmax_step(scores, tops, sums, out);
    Left<kM, kStep / 16> weights;
    round_to_left(scores, weights);
    add_weighted(weights, s.values[at], out);
  }

#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float sum = warp_reduce(sums[m][h], Sum{}, 4), factor = 1 / sum;
      const int r = row + sum_row(m, 2 * h);
      if (r >= t.n) continue;
      if (threadIdx.x % 4 == 0) lse[t.row + r] = tops[m][h] + std::log(sum);
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n)
        if (const int column = sum_column(n, 0); column < d)
          *reinterpret_cast<uint32_t*>(y + (t.row + r) * d + column) =
              pack_bf16(out[m][n][2 * h] * factor, out[m][n][2 * h + 1] * factor);
    }
}

}  // namespace

void flash_attention_forward(const AttentionShape& how, const AttentionInputs& in, AttentionForward& out) {
  const Geometry<bf16> g(how, in);
  dispatch_width(how.head_width, [&]<int kWidth>() {
    const Prepared<bf16> p(g, kWidth);
    launch({unsigned(g.n_blocks() * g.tiles_per_block(kRows)), kFlashThreads, sizeof(Shared<kWidth>), stream()},
           flash_forward_kernel<kWidth>, g, data<bf16>(p.queries), data<bf16>(p.keys), data<bf16>(p.values),
           data<bf16>(out.y), data<float>(out.lse));
    out.queries = p.queries, out.keys = p.keys, out.values = p.values;
  });
}

}  // namespace rondo::cuda
