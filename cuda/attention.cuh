// What attention's kernels share, forward and backward: where everything lies, what a query sees, and the prepared
// queries, keys and values. The heads of a query are rows of one matrix, [rows, D] (docs/attention.md). E is the type
// of queries, keys and values, T what scales and angles are in.
#pragma once
#include "cuda/head.cuh"
#include "cuda/tile.cuh"

namespace rondo::cuda {

// A block of queries: where its rows (query, head) begin among all, how many queries it has, and which rows of its
// panel hold keys.
struct Block {
  int64_t row0;
  int queries, first_key, last_key;
};

struct Span {
  int first, last;  // first..last-1
};

// A (key, value) lies in one panel or two: that of its own block, and with a window that of the next, as what came
// before.
struct Role {
  int64_t row;       // among those of all panels
  int64_t position;  // in its panel
};
struct Source {
  bool in_memory;
  int64_t offset;  // in memory or in kv
  int n_roles;
  Role roles[2];
};

// The panel of a block: with a window what came before at 0..W-1 and its own keys at W..2W-1, else its group's S keys.
template <class E>
struct Geometry {
  using T = computed_t<E>;
  AttentionShape s;
  const E *q, *kv, *memory;
  const T *q_scale, *k_scale, *table;
  int64_t blocks, panel, own;  // own: where a block's own positions begin in the table

  Geometry(const AttentionShape& shape, const AttentionInputs& in)
      : s(shape),
        q(data<E>(in.q)),
        kv(data<E>(in.kv)),
        memory(data_or_null<E>(in.memory)),
        q_scale(data_or_null<T>(in.q_scale)),
        k_scale(data_or_null<T>(in.k_scale)),
        table(data_or_null<T>(in.table)),
        blocks((s.n + s.width - 1) / s.width),
        panel(s.window ? 2 * s.width : s.keys),
        own(in.table ? in.table.dim(1) / 2 : 0) {}

  int64_t n_rows() const { return s.batch * s.n * s.heads; }
  __host__ __device__ int64_t n_blocks() const { return s.batch * blocks; }
  int64_t n_sources() const { return s.window ? s.batch * (s.memory + s.n) : n_blocks() * s.keys; }
  // How many tiles of so many rows, or of so many keys, the blocks are cut into.
  __host__ __device__ int64_t tiles_per_block(int rows) const { return (s.width * s.heads + rows - 1) / rows; }
  __host__ __device__ int64_t key_tiles(int keys) const { return (panel + keys - 1) / keys; }

  __device__ Block block(int64_t at) const {  // among those of all sequences
    const int64_t first = at % blocks * s.width, queries = min(s.width, s.n - first);
    const int64_t first_key = s.window && first == 0 ? s.width - s.memory : 0;
    return {(at / blocks * s.n + first) * s.heads, int(queries), int(first_key),
            int(s.window ? s.width + queries : s.keys)};
  }
  // The keys that query j of a block sees: exactly W of them, itself included, once there are that many.
  __device__ int first_seen(const Block& b, int j) const { return s.window ? max(b.first_key, j + 1) : 0; }
  __device__ int last_seen(int j) const { return int(s.window ? s.width + j + 1 : s.keys); }
  // The queries that see one of the keys first..first+n-1.
  __device__ Span seen_by(const Block& b, int first, int n) const {
    if (!s.window) return {0, b.queries};
    return {max(0, first - int(s.width)), min(b.queries, first + n - 1)};
  }

  __device__ Source source(int64_t i) const {
    const int64_t d2 = 2 * s.head_width;
    if (!s.window) return {false, i * d2, 1, {{i, i % s.keys}, {}}};
    const int64_t batch = i / (s.memory + s.n), at = i % (s.memory + s.n) - s.memory;
    const int64_t row = (batch * blocks + max(at, int64_t{0}) / s.width) * panel;  // of its own panel
    if (at < 0) return {true, (batch * s.memory + at + s.memory) * d2, 1, {{row + s.width + at, s.width + at}, {}}};
    const int64_t j = at % s.width;
    const int n_roles = at / s.width + 1 < blocks ? 2 : 1;
    return {false, (batch * s.n + at) * d2, n_roles, {{row + s.width + j, s.width + j}, {row + panel + j, j}}};
  }

  // A head x of the query that is the position'th of its block.
  template <class L>
  __device__ Head<E, L> query(const E* x, int64_t position) const {
    const T* angles = table ? table + (own + position) * s.head_width : nullptr;
    return Head<E, L>(x, q_scale, angles, s.head_width);
  }
  // The query of a row of all, among those of its block.
  __device__ int64_t position(int64_t row) const { return row / s.heads % s.n % s.width; }
  template <class L>
  __device__ Head<E, L> key(const Source& from) const {  // not turned: it may have two positions
    return Head<E, L>((from.in_memory ? memory : kv) + from.offset, k_scale, nullptr, s.head_width);
  }
  __device__ const T* key_angles(const Role& role) const {
    return table ? table + (3 * own - s.width + role.position) * s.head_width : nullptr;
  }
};

// Zeros behind the D numbers of a row of `width`.
template <class L, class E>
__device__ void fill_up(int64_t d, int64_t width, E* row) {
  for (int64_t i = d + threadIdx.x % L::kCount; i < width; i += L::kCount) row[i] = E(0);
}
// A query as it is multiplied, times the factor: to where each of `to` says, one of which may be where it comes from.
template <class E, class L, class... To>
__device__ void prepare_query(const Head<E, L>& q, computed_t<E> factor, int64_t width, To... to) {
  L::over(q.half(), [&](int i) {
    auto r = q.at(i);
#pragma unroll
    for (int e = 0; e < L::kN; ++e) r.low[e] *= factor, r.high[e] *= factor;
    (store_pairs<L>(r, q.d, i, to), ...);
  });
  (fill_up<L>(q.d, width, to), ...);
}
template <class E>
struct PrepareQueries {
  Geometry<E> g;
  int64_t width;
  E* queries;
  template <class L>
  __device__ void operator()(L, int64_t row, bool there) const {
    const auto q = g.template query<L>(g.q + row * g.s.head_width, g.position(row));
    if (there) prepare_query(q, computed_t<E>(g.s.factor), width, queries + row * width);
  }
};
template <class E>
struct PrepareKeys {
  Geometry<E> g;
  int64_t width;
  E *keys, *values;
  template <class L>
  __device__ void operator()(L, int64_t at, bool there) const {
    const Source from = g.source(at);
    auto k = g.template key<L>(from);
    if (!there) return;
    for (int r = 0; r < from.n_roles; ++r) {
      k.angles = g.key_angles(from.roles[r]);
      E *const key = keys + from.roles[r].row * width, *const value = values + from.roles[r].row * width;
      L::over(k.half(), [&](int i) {
        store_pairs<L>(k.at(i), k.d, i, key);
        store_pairs<L>(load_pairs<L>(k.x + k.d, k.d, i), k.d, i, value);
      });
      fill_up<L>(k.d, width, key), fill_up<L>(k.d, width, value);
    }
  }
};

// Queries times the factor [B*n*H, width], as they are multiplied; keys and values of all panels [blocks*P, width].
// Queries are prepared by flash attention's own kernel, or by prepare_queries.
template <class E>
struct Prepared {
  Tensor queries, keys, values;

  Prepared(const AttentionForward& forward) : queries(forward.queries), keys(forward.keys), values(forward.values) {}
  Prepared(const Geometry<E>& g, int64_t width)
      : queries({g.n_rows(), width}, dtype_of<E>, Device::cuda),
        keys({g.n_blocks() * g.panel, width}, dtype_of<E>, Device::cuda),
        values(keys.shape(), dtype_of<E>, Device::cuda) {
    for_each_head<E>(g.n_sources(), g.s.head_width, PrepareKeys<E>{g, width, data<E>(keys), data<E>(values)});
  }
};

template <class E>
void prepare_queries(const Geometry<E>& g, const Prepared<E>& p) {
  const int64_t width = p.queries.shape()[1];
  for_each_head<E>(g.n_rows(), g.s.head_width, PrepareQueries<E>{g, width, data<E>(p.queries)});
}

// Tile `at` of all: rows row..row+n-1 (query, head) of one block, the first of them (query, head), and the keys
// first..last-1 of its panel, all that one of them sees. n <= 0 where a block has fewer tiles than others.
template <int kRows>
struct QueryTile {
  Block block;
  int64_t row, panel;
  int n, query, head, heads, first, last;

  template <class E>
  __device__ QueryTile(const Geometry<E>& g, int64_t at)
      : block(g.block(at / g.tiles_per_block(kRows))), heads(int(g.s.heads)) {
    const int64_t from = at % g.tiles_per_block(kRows) * kRows;
    row = block.row0 + from, panel = at / g.tiles_per_block(kRows) * g.panel;
    n = int(min(block.queries * g.s.heads - from, int64_t{kRows}));
    query = int(from / g.s.heads), head = int(from % g.s.heads);
    first = g.first_seen(block, query), last = g.last_seen(int((from + n - 1) / g.s.heads));
  }
  // The query of the tile's r-th row, among those of its block.
  __device__ int query_of(int r) const { return query + (head + r) / heads; }
};

// bf16 on tensor cores (flash_attention.cu), for heads of whole lanes that are not too wide; other bf16 is computed in
// f32.
inline constexpr int64_t kFlashWidth = 128;
inline bool flash_takes(const AttentionShape& s) { return s.head_width % 16 == 0 && s.head_width <= kFlashWidth; }
void flash_attention_forward(const AttentionShape& how, const AttentionInputs& in, AttentionForward& out);
void flash_attention_backward(const AttentionShape& how, const AttentionInputs& in, const Tensor& dy,
                              const AttentionForward& forward, const AttentionGradients& out);
inline Tensor widened(const Tensor& t) { return t ? to(detach(t), DType::f32) : t; }

}  // namespace rondo::cuda
