// The backward pass of attention (docs/attention.md): one kernel walks over the keys of a tile of rows for dQ, another
// over the rows of a tile of keys for dK and dV. Each makes the probabilities again, and nothing is added up by two.
#include "cuda/attention.cuh"

namespace rondo {
namespace {

using namespace cuda;

// What is multiplied: the prepared inputs, dy [rows, D], and for each row its lse and <dy, y>.
template <class T>
struct Operands {
  const T *queries, *keys, *values, *dy, *lse, *along;
};
template <class T>
struct Shared {
  Tile<T> queries, keys, values, dy, weights;
};

// Block (tile of rows, 64 columns of dqueries).
template <class T>
__global__ void __launch_bounds__(kThreads, kPerProcessor<T>)
    attention_dquery_kernel(Geometry<T> g, Operands<T> in, T* dqueries) {
  Shared<T>& s = shared<Shared<T>>();
  const QueryTile t(g, blockIdx.x);
  if (t.n <= 0) return;
  const int64_t d = g.s.head_width, column = int64_t(blockIdx.y) * kTile;
  const Matrix<T> queries{in.queries + t.row * d, t.n, d}, dy{in.dy + t.row * d, t.n, d};

  int from[kEach], to[kEach];
  T lse[kEach], along[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = t.query + int((t.head + tile_y(i)) / g.s.heads);
    const bool there = tile_y(i) < t.n;
    from[i] = g.first_seen(t.block, j), to[i] = there ? g.last_seen(j) : 0;
    lse[i] = there ? in.lse[t.row + tile_y(i)] : T(0), along[i] = there ? in.along[t.row + tile_y(i)] : T(0);
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
        s.weights.at(tile_y(i), tile_x(j)) = seen ? std::exp(scores[i][j] - lse[i]) * (dp[i][j] - along[i]) : T(0);
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
  Shared<T>& s = shared<Shared<T>>();
  const int64_t at = blockIdx.x / g.key_tiles(), d = g.s.head_width, column = int64_t(blockIdx.y) * kTile;
  const Block b = g.block(at);
  const int first = b.first_key + int(blockIdx.x % g.key_tiles()) * kTile, n = min(b.last_key - first, kTile);
  if (n <= 0) return;
  const int64_t here = (at * g.panel + first) * d;
  const Matrix<T> keys{in.keys + here, n, d}, values{in.values + here, n, d};

  // The rows of all queries that see one of these keys.
  const int first_query = g.s.window ? max(0, first - int(g.s.width)) : 0;
  const int last_query = g.s.window ? min(b.queries, first + n - 1) : b.queries;
  const int64_t last_row = last_query * g.s.heads;
  Part<T> dk = {}, dv = {};
  for (int64_t r = first_query * g.s.heads; r < last_row; r += kTile) {
    const int64_t row = b.row0 + r;
    const int n_rows = int(min(last_row - r, int64_t{kTile}));
    const Matrix<T> queries{in.queries + row * d, n_rows, d}, dy{in.dy + row * d, n_rows, d};
    const bool kept = r > first_query * g.s.heads;
    Part<T> scores, ds;
    dots(keys, kept, s.keys, queries, s.queries, scores);
    dots(values, kept, s.values, dy, s.dy, ds);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const bool there = tile_x(j) < n_rows;
      const int query = int((r + tile_x(j)) / g.s.heads), from = g.first_seen(b, query), to = g.last_seen(query);
      const T lse = there ? in.lse[row + tile_x(j)] : T(0), along = there ? in.along[row + tile_x(j)] : T(0);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int k = first + tile_y(i);
        const bool seen = there && k >= from && k < to;
        const T p = seen ? std::exp(scores[i][j] - lse) : T(0);
        s.weights.at(tile_y(i), tile_x(j)) = p;
        ds[i][j] = seen ? p * (ds[i][j] - along) : T(0);
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

// along = <dy, y> of each row: what the softmax's normalisation brings in.
template <class T>
struct Along {
  int64_t d;
  const T *dy, *y;
  T* along;
  __device__ void operator()(int64_t row, int64_t) const {
    const T *a = dy + row * d, *b = y + row * d;
    const T sum = warp_sum<T>(d, [=](int64_t i) { return a[i] * b[i]; });
    if (lane_of_warp() == 0) along[row] = sum;
  }
};

// From the gradients of the prepared queries to those of q; each warp adds up its part of dscale.
template <class T>
struct QueriesBackward {
  Geometry<T> g;
  const T* dqueries;
  T *dq, *dscale;
  __device__ void operator()(int64_t row, int64_t warp) const {
    const Head<T> q = g.query(row);
    const T* dy = dqueries + row * q.d;
    const auto back = [&](int64_t i) { return turned_back(dy, q.angles, q.d, i) * T(g.s.factor); };
    head_backward(q, back, dq + row * q.d, dscale + warp * q.d, row != warp);
  }
};

// A key's gradients in all its roles, each turned back by its own angles, are added up before its norm is undone.
template <class T>
struct KeysBackward {
  Geometry<T> g;
  const T *dkeys, *dvalues;
  T *dkv, *dmemory, *dscale;
  __device__ void operator()(int64_t at, int64_t warp) const {
    const Source from = g.source(at);
    const Head<T> k = g.key(from);
    T* const pair = (from.in_memory ? dmemory : dkv) + from.offset;
    const auto over_roles = [&](const auto& f) {
      T sum = 0;
      for (int r = 0; r < from.n_roles; ++r) sum += f(from.roles[r]);
      return sum;
    };
    const auto back = [&](int64_t i) {
      return over_roles([&](const Role& r) { return turned_back(dkeys + r.row * k.d, g.key_angles(r), k.d, i); });
    };
    head_backward(k, back, pair, dscale + warp * k.d, at != warp);
    for (int64_t i = lane_of_warp(); i < k.d; i += 32)
      pair[k.d + i] = over_roles([&](const Role& r) { return dvalues[r.row * k.d + i]; });
  }
};

template <class T>
void backward(const Geometry<T>& g, const Tensor& dy, const Tensor& y, const Tensor& lse,
              const AttentionGradients& out) {
  const int64_t d = g.s.head_width;
  const auto temporary = [](const Shape& shape) { return Tensor(shape, dtype_of<T>, Device::cuda); };
  const Prepared<T> p(g);
  const Tensor along = temporary(lse.shape()), dqueries = temporary(p.queries.shape()),
               dkeys = temporary(p.keys.shape()), dvalues = temporary(p.keys.shape());
  for_each_warp(g.n_rows(), Along<T>{d, data<T>(dy), data<T>(y), data<T>(along)});
  const Operands<T> in = {data<T>(p.queries), data<T>(p.keys), data<T>(p.values),
                          data<T>(dy),        data<T>(lse),    data<T>(along)};
  launch({g.grid(g.tiles_per_block()), kThreads, sizeof(Shared<T>), stream()}, attention_dquery_kernel<T>, g, in,
         data<T>(dqueries));
  launch({g.grid(g.key_tiles()), kThreads, sizeof(Shared<T>), stream()}, attention_dkey_kernel<T>, g, in,
         data<T>(dkeys), data<T>(dvalues));

  const auto parts = [&](const Tensor& scale, int64_t n) { return scale ? temporary({warps_for(n), d}) : Tensor(); };
  const Tensor dq_scale = parts(out.dq_scale, g.n_rows()), dk_scale = parts(out.dk_scale, g.n_sources());
  for_each_warp(g.n_rows(), QueriesBackward<T>{g, data<T>(dqueries), data<T>(out.dq), data_or_null<T>(dq_scale)});
  for_each_warp(g.n_sources(), KeysBackward<T>{g, data<T>(dkeys), data<T>(dvalues), data<T>(out.dkv),
                                               data_or_null<T>(out.dmemory), data_or_null<T>(dk_scale)});
  if (out.dq_scale) sum_to(Cuda{}, dq_scale, out.dq_scale);
  if (out.dk_scale) sum_to(Cuda{}, dk_scale, out.dk_scale);
}

}  // namespace

void attention_backward(Cuda, const AttentionShape& how, const AttentionInputs& in, const Tensor& dy, const Tensor& y,
                        const Tensor& lse, const AttentionGradients& out) {
  if (y.numel() == 0) {
    for (const Tensor* t : {&out.dq, &out.dkv, &out.dmemory, &out.dq_scale, &out.dk_scale})
      if (*t) fill(Cuda{}, 0, *t);
    return;
  }
  if (y.dtype() == DType::bf16) {
    const Tensor q = widened(in.q), kv = widened(in.kv), memory = widened(in.memory);
    const auto wide = [](const Tensor& t) { return t ? Tensor(t.shape(), DType::f32, Device::cuda) : t; };
    const Tensor dq = wide(out.dq), dkv = wide(out.dkv), dmemory = wide(out.dmemory);
    attention_backward(Cuda{}, how, {q, kv, memory, in.q_scale, in.k_scale, in.table}, widened(dy), widened(y), lse,
                       {dq, dkv, dmemory, out.dq_scale, out.dk_scale});
    copy(Cuda{}, dq, out.dq), copy(Cuda{}, dkv, out.dkv);
    if (dmemory) copy(Cuda{}, dmemory, out.dmemory);
    return;
  }
  dispatch_float(y.dtype(), [&]<class T>() { backward(Geometry<T>(how, in), dy, y, lse, out); });
}

}  // namespace rondo
