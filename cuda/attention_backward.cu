// The backward pass of attention (docs/attention.md): one kernel walks over the keys of a tile of rows for dQ, another
// over the rows of a tile of keys for dK and dV. Each makes the probabilities again, and nothing is added up by two.
#include "cuda/attention_gradients.cuh"

namespace rondo {
namespace {

using namespace cuda;

// What is multiplied: the prepared inputs, dy [rows, D], and each row's numbers.
template <class T>
struct Operands {
  const T *queries, *keys, *values, *dy;
  const RowNumbers<T>* numbers;
};
template <class T>
struct QueriesShared {
  LeftTile<T> queries, dy, weights;
  Tile<T> keys, values;
};
template <class T>
struct KeysShared {
  LeftTile<T> keys, values, weights;
  Tile<T> queries, dy;
};

// Block (tile of rows, 64 columns of dqueries).
template <class T>
__global__ void __launch_bounds__(kThreads, kPerProcessor<T>)
    attention_dquery_kernel(Geometry<T> g, Operands<T> in, T* dqueries) {
  QueriesShared<T>& s = shared<QueriesShared<T>>();
  const QueryTile<kTile> t(g, blockIdx.x);
  if (t.n <= 0) return;
  const int64_t d = g.s.head_width, column = int64_t(blockIdx.y) * kTile;
  const Matrix<T> queries{in.queries + t.row * d, t.n, d}, dy{in.dy + t.row * d, t.n, d};

  int from[kEach], to[kEach];
  RowNumbers<T> numbers[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = t.query_of(tile_y(i));
    const bool there = tile_y(i) < t.n;
    from[i] = g.first_seen(t.block, j), to[i] = there ? g.last_seen(j) : 0;
    numbers[i] = there ? in.numbers[t.row + tile_y(i)] : RowNumbers<T>{};
  }
  Part<T> dq = {};
  for (int key = t.first; key < t.last; key += kTile) {
    const int n = t.last - key;
    const int64_t at = (t.panel + key) * d;
    const Matrix<T> keys{in.keys + at, n, d};
    Part<T> scores, dp;
    dots(queries, key > t.first, s.queries, keys, s.keys, scores);
    dots(dy, key > t.first, s.dy, Matrix<T>{in.values + at, n, d}, s.values, dp);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int k = key + tile_x(j);
        const bool seen = k >= from[i] && k < to[i];
        s.weights.at(tile_y(i), tile_x(j)) =
            seen ? std::exp(scores[i][j] - numbers[i].lse) * (dp[i][j] - numbers[i].along) : T(0);
      }
    if (d > kTile) load(keys, column, s.keys);
    __syncthreads();
    add_weighted(s.weights, s.keys, dq);
  }
  store(dq, column, dqueries + t.row * d, t.n, d);
}

// Block (tile of keys, 64 columns of dkeys and dvalues).
template <class T>
__global__ void __launch_bounds__(kThreads, kPerProcessor<T>)
    attention_dkey_kernel(Geometry<T> g, Operands<T> in, T* dkeys, T* dvalues) {
  KeysShared<T>& s = shared<KeysShared<T>>();
  const int64_t tiles = g.key_tiles(kTile), at = blockIdx.x / tiles, d = g.s.head_width,
                column = int64_t(blockIdx.y) * kTile;
  const Block b = g.block(at);
  const int first = b.first_key + int(blockIdx.x % tiles) * kTile, n = min(b.last_key - first, kTile);
  if (n <= 0) return;
  const int64_t here = (at * g.panel + first) * d;
  const Matrix<T> keys{in.keys + here, n, d}, values{in.values + here, n, d};

  const Span by = g.seen_by(b, first, n);
  const int64_t last_row = by.last * g.s.heads;
  Part<T> dk = {}, dv = {};
  for (int64_t r = by.first * g.s.heads; r < last_row; r += kTile) {
    const int64_t row = b.row0 + r;
    const int n_rows = int(min(last_row - r, int64_t{kTile}));
    const Matrix<T> queries{in.queries + row * d, n_rows, d}, dy{in.dy + row * d, n_rows, d};
    const bool kept = r > by.first * g.s.heads;
    Part<T> scores, ds;
    dots(keys, kept, s.keys, queries, s.queries, scores);
    dots(values, kept, s.values, dy, s.dy, ds);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const bool there = tile_x(j) < n_rows;
      const int query = int((r + tile_x(j)) / g.s.heads), from = g.first_seen(b, query), to = g.last_seen(query);
      const RowNumbers<T> numbers = there ? in.numbers[row + tile_x(j)] : RowNumbers<T>{};
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int k = first + tile_y(i);
        const bool seen = k >= from && k < to;
        const T p = seen ? std::exp(scores[i][j] - numbers.lse) : T(0);
        s.weights.at(tile_y(i), tile_x(j)) = p;
        ds[i][j] = seen ? p * (ds[i][j] - numbers.along) : T(0);
      }
    }
    if (d > kTile) {
      __syncthreads();  // all have read the last columns of dy
      load(dy, column, s.dy);
      load(queries, column, s.queries);
    }
    __syncthreads();
    add_weighted(s.weights, s.dy, dv);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j) s.weights.at(tile_y(i), tile_x(j)) = ds[i][j];
    __syncthreads();
    add_weighted(s.weights, s.queries, dk);
  }
  store(dk, column, dkeys + here, n, d);
  store(dv, column, dvalues + here, n, d);
}

template <class T>
void backward(const Geometry<T>& g, const Tensor& dy, const Tensor& y, const Tensor& lse,
              const AttentionGradients& out) {
  const int64_t d = g.s.head_width;
  const auto temporary = [](const Shape& shape) { return Tensor(shape, dtype_of<T>, Device::cuda); };
  const Prepared<T> p(g, d);
  prepare_queries(g, p);
  const Tensor dqueries = temporary(p.queries.shape()), dkeys = temporary(p.keys.shape()),
               dvalues = temporary(p.keys.shape()), numbers = temporary({g.n_rows(), 2});
  for_each_head<T>(g.n_rows(), d, FindRowNumbers<T>{d, data<T>(dy), data<T>(y), data<T>(lse), numbers_of<T>(numbers)});
  const Operands<T> in = {data<T>(p.queries), data<T>(p.keys), data<T>(p.values), data<T>(dy), numbers_of<T>(numbers)};
  launch({tile_grid(g.n_blocks() * g.tiles_per_block(kTile), d), kThreads, sizeof(QueriesShared<T>), stream()},
         attention_dquery_kernel<T>, g, in, data<T>(dqueries));
  launch({tile_grid(g.n_blocks() * g.key_tiles(kTile), d), kThreads, sizeof(KeysShared<T>), stream()},
         attention_dkey_kernel<T>, g, in, data<T>(dkeys), data<T>(dvalues));
  for_each_head_summed<T>(g.n_rows(), d, QueriesBackward<T>{g, data<T>(dqueries), data<T>(out.dq)}, out.dq_scale);
  keys_backward(g, {data<T>(dkeys), data<T>(dvalues), 0, int(g.s.width)}, out);
}

}  // namespace

void attention_backward(Cuda, const AttentionShape& how, const AttentionInputs& in, const Tensor& dy,
                        const AttentionForward& forward, const AttentionGradients& out) {
  const Tensor &y = forward.y, &lse = forward.lse;
  if (y.dtype() == DType::bf16 && flash_takes(how)) return flash_attention_backward(how, in, dy, forward, out);
  if (y.dtype() == DType::bf16) {
    const Tensor q = widened(in.q), kv = widened(in.kv), memory = widened(in.memory);
    const auto wide = [](const Tensor& t) { return t ? Tensor(t.shape(), DType::f32, Device::cuda) : t; };
    const Tensor dq = wide(out.dq), dkv = wide(out.dkv), dmemory = wide(out.dmemory);
    attention_backward(Cuda{}, how, {q, kv, memory, in.q_scale, in.k_scale, in.table}, widened(dy), {widened(y), lse},
                       {dq, dkv, dmemory, out.dq_scale, out.dk_scale});
    copy(Cuda{}, dq, out.dq), copy(Cuda{}, dkv, out.dkv);
    if (dmemory) copy(Cuda{}, dmemory, out.dmemory);
    return;
  }
  dispatch_float(y.dtype(), [&]<class T>() { backward(Geometry<T>(how, in), dy, y, lse, out); });
}

}  // namespace rondo
