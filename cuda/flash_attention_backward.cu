// The backward pass of flash attention in bf16 on tensor cores (docs/attention.md): one kernel has rows (query, head)
// and walks over their keys for dQ, another has keys and walks over the rows that see them for dK and dV. Each makes
// the probabilities again, and every sum has one owner and one order. The first one also finds each row's numbers, for
// both, and ends with the way from its rows' gradients to those of q.
#include "cuda/attention_gradients.cuh"
#include "cuda/flash_attention.cuh"

namespace rondo::cuda {
namespace {

// What is multiplied: the prepared inputs, dy [rows, D], and each row's numbers, its lse times log2(e), which the
// kernel for dQ finds.
struct Operands {
  const bf16 *queries, *keys, *values, *dy;
  RowNumbers<float>* numbers;
};

template <int kWidth>
struct Sizes {
  static constexpr int kM = kWidth <= 64 ? 2 : 1;     // sixteens of rows, or of keys, of a warp
  static constexpr int kOwn = 16 * kM * kFlashWarps;  // of a block
  static constexpr int kStep = 32;                    // of what comes by at a time
  static constexpr int kK = kWidth / 16, kN = kStep / 8;
};

// Of the kernel for dQ: tiles while keys come by, then its rows' gradients on their way to q.
template <int kWidth>
struct RowsShared {
  using S = Sizes<kWidth>;
  struct Tiles {
    MmaTile<S::kOwn, kWidth> queries, dy;
    MmaTile<S::kStep, kWidth> keys[2], values[2];
    RowNumbers<float> numbers[S::kOwn];
  };
  struct Gradients {
    alignas(16) float dqueries[S::kOwn][kWidth + 4];  // rows begin in different banks
    alignas(16) float dscale[kRowGroups * kWidth];
  };
  union {
    Tiles tiles;
    Gradients gradients;
  };
  MmaTile<S::kOwn, kWidth> y_then_q;  // as they lie in memory
};

// sums = what 16 kM rows of `tile` in registers, or again from the tile where heads are wide, give with all of `right`.
template <int kM, int kK, int kN, class Tile, class Right>
__device__ void dots(const uint32_t (&held)[kM][kK][4], const Tile& tile, int row, const Right& right,
                     float (&sums)[kM][kN][4]) {
#pragma unroll
  for (int i = 0; i < kM * kN * 4; ++i) sums[i / (kN * 4)][i / 4 % kN][i % 4] = 0;
  if constexpr (kK > 1)
    add_dots(InRegisters<kM, kK>{held}, right, sums);
  else
    add_dots(InTile<Tile>{tile, row}, right, sums);
}

// What the columns of a thread's sums need, before it is needed: loads do not wait for one another.
template <int kN>
__device__ void load_numbers_of_columns(const RowNumbers<float> (&from)[8 * kN], RowNumbers<float> (&to)[kN][2]) {
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) to[n][e] = from[sum_column(n, e)];
}

// Sums of a warp as rows of so many numbers, those below the n-th and in columns below d.
template <int kM, int kN>
__device__ void store(const float (&sums)[kM][kN][4], int row, int n, int d, float* y, int width) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int i = 0; i < kN; ++i)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        if (const int r = row + sum_row(m, e), column = sum_column(i, e); r < n && column < d)
          *reinterpret_cast<float2*>(y + int64_t(r) * width + column) = make_float2(sums[m][i][e], sums[m][i][e + 1]);
}

// The numbers of a tile's rows, for this block, which has their lse already, and for all.
template <int kRows, class Tile>
__device__ void find_numbers(const QueryTile<kRows>& t, Tile& dy, Tile& y, int d, RowNumbers<float> (&here)[kRows],
                             RowNumbers<float>* all) {
  for_rows_of_lanes<kRows>([&](int r) {
    const float along = head_dot<FlashLanes>(row_of(dy, r), row_of(y, r), d);
    if (threadIdx.x % FlashLanes::kCount != 0) return;
    here[r].along = along;
    if (r < t.n) all[t.row + r] = here[r];
  });
}

// Block: a tile of rows.
template <int kWidth>
__global__ void __launch_bounds__(kFlashThreads, 2)
    flash_dquery_kernel(Geometry<bf16> g, Operands in, const bf16* y, const float* lse, bf16* dq, float* dscale_parts) {
  using S = Sizes<kWidth>;
  constexpr bool kHeld = kWidth <= 64;
  constexpr int kM = S::kM, kHeldK = kHeld ? S::kK : 1;
  auto& all = shared<RowsShared<kWidth>>();
  auto& s = all.tiles;
  const QueryTile<S::kOwn> t(g, blockIdx.x);
  const int d = int(g.s.head_width), row = int(threadIdx.x) / 32 * 16 * kM;
  float* const dscale_part = dscale_parts ? dscale_parts + int64_t(blockIdx.x) * d : nullptr;
  if (t.n <= 0) {
    static_assert(kWidth <= kFlashThreads && S::kOwn <= kFlashThreads);
    if (const int i = int(threadIdx.x); dscale_part && i < d) dscale_part[i] = 0;
    return;
  }
  const auto load = [&](int key, int to) {
    const int64_t at = (t.panel + key) * kWidth;
    copy_rows_async<kFlashThreads>(in.keys + at, t.last - key, kWidth, s.keys[to]);
    copy_rows_async<kFlashThreads>(in.values + at, t.last - key, kWidth, s.values[to]);
    copy_commit();
  };
  copy_rows_async<kFlashThreads>(in.queries + t.row * kWidth, t.n, kWidth, s.queries);
  copy_rows_async<kFlashThreads>(in.dy + t.row * d, t.n, d, s.dy);
  copy_rows_async<kFlashThreads>(y + t.row * d, t.n, d, all.y_then_q);
  load(t.first, 0);

  if (const int r = int(threadIdx.x); r < S::kOwn) s.numbers[r].lse = lse[t.row + min(r, t.n - 1)] * kLog2e;
  const Sight sees(g);
  const int last_query = t.query_of(t.n - 1);
  int first_seen[kM][2];
  RowNumbers<float> numbers[kM][2];
  Left<kM, kHeldK> queries, dy;
  Sums<kM, kWidth / 8> sums = {};
  for (int key = t.first, at = 0; key < t.last; key += S::kStep, at ^= 1) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and all are done with the last one
    if (key + S::kStep < t.last) load(key + S::kStep, at ^ 1);
    if (key == t.first) {
      find_numbers(t, s.dy, all.y_then_q, d, s.numbers, in.numbers);
      __syncthreads();
      copy_rows_async<kFlashThreads>(g.q + t.row * d, t.n, d, all.y_then_q);
      copy_commit();
      if constexpr (kHeld) load_left<kM, kHeldK>(s.queries, row, queries), load_left<kM, kHeldK>(s.dy, row, dy);
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int r = row + sum_row(m, 2 * h);
          first_seen[m][h] = sees.first(t.query_of(r)), numbers[m][h] = s.numbers[r];
        }
    }
    Sums<kM, S::kN> scores, dp;
    dots(queries, s.queries, row, s.keys[at], scores);
    dots(dy, s.dy, row, s.values[at], dp);
    if (!sees.whole(t.query, last_query, key, S::kStep))
      hide(scores, [&](int m, int n, int e) { return sees(first_seen[m][e / 2], key + sum_column(n, e)); });
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < S::kN; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const RowNumbers<float> row = numbers[m][e / 2];
          const float p = exp2_approximate(fmaf(scores[m][n][e], kLog2e, -row.lse));
          scores[m][n][e] = p * (dp[m][n][e] - row.along);
        }
    Left<kM, S::kStep / 16> ds;
    round_to_left(scores, ds);
    add_weighted(ds, s.keys[at], sums);
  }

  copy_wait<0>();
  __syncthreads();  // q is there, and all are done with the tiles
  auto& to = all.gradients;
  store(sums, row, S::kOwn, kWidth, &to.dqueries[0][0], kWidth + 4);
  float* const dscale = to.dscale + int(threadIdx.x) / FlashLanes::kCount * d;
  for (int i = int(threadIdx.x) % FlashLanes::kCount; i < d; i += FlashLanes::kCount) dscale[i] = 0;
  __syncthreads();
  for_rows_of_lanes<S::kOwn>([&](int r) {
    const auto q = g.template query<FlashLanes>(row_of(all.y_then_q, r), t.query_of(min(r, t.n - 1)));
    query_backward(g, q, to.dqueries[r], r < t.n, dq + (t.row + r) * d, dscale);
  });
  if (dscale_part) add_up_groups<kRowGroups>(to.dscale, d, dscale_part);
}

template <int kWidth>
struct KeysShared {
  MmaTile<Sizes<kWidth>::kOwn, kWidth> keys, values;
  MmaTile<Sizes<kWidth>::kStep, kWidth> queries[2], dy[2];
  RowNumbers<float> numbers[2][Sizes<kWidth>::kStep];
  int first_seen[2][Sizes<kWidth>::kStep];  // by each row that comes by
};

// Block: a tile of keys, and of the rows that see them those of one share of the queries. What comes of the products is
// transposed: a warp has keys in rows, so that its probabilities are the left sides of its own next products.
template <int kWidth>
__global__ void __launch_bounds__(kFlashThreads, 2)
    flash_dkey_kernel(Geometry<bf16> g, Operands in, int share, float* dkeys, float* dvalues) {
  using S = Sizes<kWidth>;
  constexpr int kM = S::kM;
  using Own = MmaTile<S::kOwn, kWidth>;
  KeysShared<kWidth>& s = shared<KeysShared<kWidth>>();
  const int64_t tiles = g.key_tiles(S::kOwn), at = blockIdx.x / tiles;
  const Block b = g.block(at);
  const int first = b.first_key + int(blockIdx.x % tiles) * S::kOwn, n = min(b.last_key - first, S::kOwn);
  const Span by = g.seen_by(b, first, n);
  const int heads = int(g.s.heads), d = int(g.s.head_width);
  const int from = max(by.first, int(blockIdx.y) * share), to = min(by.last, int(blockIdx.y + 1) * share);
  if (n <= 0 || from >= to) return;
  const int64_t here = at * g.panel + first;
  copy_rows_async<kFlashThreads>(in.keys + here * kWidth, n, kWidth, s.keys);
  copy_rows_async<kFlashThreads>(in.values + here * kWidth, n, kWidth, s.values);

  const Sight sees(g);
  const int last_row = to * heads;
  const auto load = [&](int r, int into) {  // rows that are not there are zeros, and add nothing
    const int64_t row = b.row0 + r;
    copy_rows_async<kFlashThreads>(in.queries + row * kWidth, last_row - r, kWidth, s.queries[into]);
    copy_rows_async<kFlashThreads>(in.dy + row * d, last_row - r, d, s.dy[into]);
    if (const int i = int(threadIdx.x); i < S::kStep) {
      const bool there = r + i < last_row;
      copy_async_8(&s.numbers[into][i], in.numbers + (there ? row + i : 0), there);
      s.first_seen[into][i] = sees.first((r + i) / heads);
    }
    copy_commit();
  };
  const int first_row = from * heads, own = int(threadIdx.x) / 32 * 16 * kM;
  load(first_row, 0);
  // The rows that see one of the warp's keys, and those that see all keys of the block.
  const Span by_one = g.seen_by(b, first + own, 16 * kM), by_all = sees.of_all(first, S::kOwn);
  const Span mine = {by_one.first * heads, by_one.last * heads}, all = {by_all.first * heads, by_all.last * heads};

  Sums<kM, kWidth / 8> dk = {}, dv = {};
  for (int r = first_row, at = 0; r < last_row; r += S::kStep, at ^= 1) {
    const int next = r + S::kStep;
    copy_wait<0>();
    __syncthreads();  // this tile is there, and all are done with the last one
    if (next < last_row) load(next, at ^ 1);
    if (next <= mine.first || r >= mine.last) continue;  // nothing for this warp
    const bool whole = r >= all.first && next <= all.last;
    Sums<kM, S::kN> p = {}, ds = {};
    Left<kM, S::kStep / 16> left;
    add_dots(InTile<Own>{s.keys, own}, s.queries[at], p);
    if (!whole)
      hide(p,
           [&](int m, int n, int e) { return sees(s.first_seen[at][sum_column(n, e)], first + own + sum_row(m, e)); });
    RowNumbers<float> numbers[S::kN][2];
    load_numbers_of_columns(s.numbers[at], numbers);
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < S::kN; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) p[m][n][e] = exp2_approximate(fmaf(p[m][n][e], kLog2e, -numbers[n][e % 2].lse));
    round_to_left(p, left);
    add_weighted(left, s.dy[at], dv);
    add_dots(InTile<Own>{s.values, own}, s.dy[at], ds);
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < S::kN; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) ds[m][n][e] = p[m][n][e] * (ds[m][n][e] - numbers[n][e % 2].along);
    round_to_left(ds, left);
    add_weighted(left, s.queries[at], dk);
  }
  const int64_t part = (int64_t(blockIdx.y) * g.n_blocks() * g.panel + here) * d;
  store(dk, own, n, d, dkeys + part, d);
  store(dv, own, n, d, dvalues + part, d);
}

// Few blocks of keys would leave processors idle: then their queries are shared out, as far as the sums of the shares
// are not too many to add up. The shapes alone decide.
int shares(int64_t key_blocks) {
  constexpr int64_t kEnough = 512;
  return int(std::clamp<int64_t>(kEnough / key_blocks, 1, kMostShares));
}

}  // namespace

void flash_attention_backward(const AttentionShape& how, const AttentionInputs& in, const Tensor& dy,
                              const AttentionForward& forward, const AttentionGradients& out) {
  const Geometry<bf16> g(how, in);
  const int64_t d = how.head_width, n_keys = g.n_blocks() * g.panel;
  const Tensor numbers({g.n_rows(), 2}, DType::f32, Device::cuda);
  dispatch_tile_width(d, [&]<int kWidth>() {
    using S = Sizes<kWidth>;
    const Prepared<bf16> p(forward);
    const Operands operands = {data<bf16>(p.queries), data<bf16>(p.keys), data<bf16>(p.values), data<bf16>(dy),
                               numbers_of<float>(numbers)};
    const int64_t row_blocks = g.n_blocks() * g.tiles_per_block(S::kOwn),
                  key_blocks = g.n_blocks() * g.key_tiles(S::kOwn);
    const Tensor dscale_parts = out.dq_scale ? Tensor({row_blocks, d}, DType::f32, Device::cuda) : Tensor();
    launch({unsigned(row_blocks), kFlashThreads, sizeof(RowsShared<kWidth>), stream()}, flash_dquery_kernel<kWidth>, g,
           operands, data<bf16>(forward.y), data<float>(forward.lse), data<bf16>(out.dq),
           data_or_null<float>(dscale_parts));
    if (out.dq_scale) sum_to(Cuda{}, dscale_parts, out.dq_scale);
    const int n_shares = shares(key_blocks), share = int((how.width + n_shares - 1) / n_shares);
    const Tensor dkeys({n_shares, n_keys, d}, DType::f32, Device::cuda), dvalues = empty_like(dkeys);
    launch({dim3(unsigned(key_blocks), unsigned(n_shares)), kFlashThreads, sizeof(KeysShared<kWidth>), stream()},
           flash_dkey_kernel<kWidth>, g, operands, share, data<float>(dkeys), data<float>(dvalues));
    keys_backward(g, {data<float>(dkeys), data<float>(dvalues), n_keys * d, share}, out);
  });
}

}  // namespace rondo::cuda
