// Multi-query attention: a tile of 64 rows (query, head) walks over the keys that one of its queries sees, 64 at a time
// (Dao et al. 2022, FlashAttention). No score leaves the processor.
#include "cuda/attention.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class T>
struct Shared {
  LeftTile<T> queries, weights;
  Tile<T> keys;  // the values come where they were
};

// Block (tile of rows, 64 columns of y).
template <class T>
__global__ void __launch_bounds__(kThreads, kPerProcessor<T>)
    attention_forward_kernel(Geometry<T> g, const T* queries, const T* keys, const T* values, T* y, T* lse) {
  Shared<T>& s = shared<Shared<T>>();
  const QueryTile<kTile> t(g, blockIdx.x);
  if (t.n <= 0) return;
  const int64_t d = g.s.head_width, column = int64_t(blockIdx.y) * kTile;
  const Matrix<T> left{queries + t.row * d, t.n, d};

  int from[kEach], to[kEach];  // the keys that the thread's rows see
  T top[kEach], sum[kEach];
  Part<T> out = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = t.query_of(tile_y(i));
    from[i] = g.first_seen(t.block, j), to[i] = g.last_seen(j);
    top[i] = Max::start<T>(), sum[i] = 0;
  }
  // Every row sees a key of the first 64, so that from there on `top` is a number.
  for (int key = t.first; key < t.last; key += kTile) {
    const int n = t.last - key;
    const int64_t at = (t.panel + key) * d;
    Part<T> scores;
    dots(left, key > t.first, s.queries, Matrix<T>{keys + at, n, d}, s.keys, scores);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      T highest = top[i];
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int k = key + tile_x(j);
        if (k < from[i] || k >= to[i]) scores[i][j] = Max::start<T>();
        highest = Max{}(highest, scores[i][j]);
      }
      highest = warp_reduce(highest, Max{}, kSide);
      const T shrink = std::exp(top[i] - highest);
      top[i] = highest, sum[i] *= shrink;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const T weight = std::exp(scores[i][j] - highest);
        sum[i] += weight, out[i][j] *= shrink;
        s.weights.at(tile_y(i), tile_x(j)) = weight;
      }
    }
    __syncthreads();  // all have read the keys
    load(Matrix<T>{values + at, n, d}, column, s.keys);
    __syncthreads();
    add_weighted(s.weights, s.keys, out);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    sum[i] = warp_reduce(sum[i], Sum{}, kSide);
#pragma unroll
    for (int j = 0; j < kEach; ++j) out[i][j] /= sum[i];
    if (column == 0 && tile_x(0) == 0 && tile_y(i) < t.n) lse[t.row + tile_y(i)] = top[i] + std::log(sum[i]);
  }
  store(out, column, y + t.row * d, t.n, d);
}

}  // namespace

void attention_forward(Cuda, const AttentionShape& how, const AttentionInputs& in, AttentionForward& out) {
  const Tensor &y = out.y, &lse = out.lse;
  if (y.dtype() == DType::bf16 && flash_takes(how)) return flash_attention_forward(how, in, out);
  if (y.dtype() == DType::bf16) {
    const Tensor q = widened(in.q), kv = widened(in.kv), memory = widened(in.memory),
                 wide(y.shape(), DType::f32, Device::cuda);
    AttentionForward in_f32 = {wide, lse};
    attention_forward(Cuda{}, how, {q, kv, memory, in.q_scale, in.k_scale, in.table}, in_f32);
    return copy(Cuda{}, wide, y);
  }
  dispatch_float(y.dtype(), [&]<class T>() {
    const Geometry<T> g(how, in);
    const Prepared<T> p(g, how.head_width);
    prepare_queries(g, p);
    launch({tile_grid(g.n_blocks() * g.tiles_per_block(kTile), how.head_width), kThreads, sizeof(Shared<T>), stream()},
           attention_forward_kernel<T>, g, data<T>(p.queries), data<T>(p.keys), data<T>(p.values), data<T>(y),
           data<T>(lse));
  });
}

}  // namespace rondo
