// What attention forward and backward share: where everything lies, what a query sees, and the prepared queries, keys
// and values. The heads of a query are rows of one matrix, [rows, D] (docs/attention.md).
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
template <class T>
struct Geometry {
  AttentionShape s;
  const T *q, *kv, *memory, *q_scale, *k_scale, *table;
  int64_t blocks, panel;

  Geometry(const AttentionShape& shape, const AttentionInputs& in)
      : s(shape),
        q(data<T>(in.q)),
        kv(data<T>(in.kv)),
        memory(data_or_null<T>(in.memory)),
        q_scale(data_or_null<T>(in.q_scale)),
        k_scale(data_or_null<T>(in.k_scale)),
        table(data_or_null<T>(in.table)),
        blocks((s.n + s.width - 1) / s.width),
        panel(s.window ? 2 * s.width : s.keys) {}

  int64_t n_rows() const { return s.batch * s.n * s.heads; }
  int64_t n_blocks() const { return s.batch * blocks; }
  // Tiles of a block's rows and keys; a grid of those of all blocks, by the tiles that D is cut into.
  __host__ __device__ int64_t tiles_per_block() const { return (s.width * s.heads + kTile - 1) / kTile; }
  __host__ __device__ int64_t key_tiles() const { return (panel + kTile - 1) / kTile; }
  dim3 grid(int64_t tiles) const {
    return {unsigned(n_blocks() * tiles), unsigned((s.head_width + kTile - 1) / kTile)};
  }
  int64_t n_sources() const { return s.window ? s.batch * (s.memory + s.n) : n_blocks() * s.keys; }

  __device__ Block block(int64_t at) const {  // among those of all sequences
    const int64_t first = at % blocks * s.width, queries = min(s.width, s.n - first);
    const int64_t first_key = s.window && first == 0 ? s.width - s.memory : 0;
    return {(at / blocks * s.n + first) * s.heads, int(queries), int(first_key),
            int(s.window ? s.width + queries : s.keys)};
  }
  // The keys that query j of a block sees: exactly W of them, itself included, once there are that many.
  __device__ int first_seen(const Block& b, int j) const { return s.window ? max(b.first_key, j + 1) : 0; }
  __device__ int last_seen(int j) const { return int(s.window ? s.width + j + 1 : s.keys); }

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

  __device__ Head<T> query(int64_t row) const {
    const T* angles = table ? table + (s.width + row / s.heads % s.n % s.width) * s.head_width : nullptr;
    return Head<T>(q + row * s.head_width, q_scale, angles, s.head_width);
  }
  __device__ Head<T> key(const Source& from) const {  // not turned: it may have two positions
    return Head<T>((from.in_memory ? memory : kv) + from.offset, k_scale, nullptr, s.head_width);
  }
  __device__ const T* key_angles(const Role& role) const {
    return table ? table + (2 * s.width + role.position) * s.head_width : nullptr;
  }
};

template <class T>
struct PrepareQueries {
  Geometry<T> g;
  T* queries;
  __device__ void operator()(int64_t row, int64_t) const {
    const Head<T> q = g.query(row);
    for (int64_t i = lane_of_warp(); i < q.d; i += 32) queries[row * q.d + i] = q[i] * T(g.s.factor);
  }
};
template <class T>
struct PrepareKeys {
  Geometry<T> g;
  T *keys, *values;
  __device__ void operator()(int64_t at, int64_t) const {
    const Source from = g.source(at);
    Head<T> k = g.key(from);
    for (int r = 0; r < from.n_roles; ++r) {
      k.angles = g.key_angles(from.roles[r]);
      const int64_t row = from.roles[r].row * k.d;
      for (int64_t i = lane_of_warp(); i < k.d; i += 32) keys[row + i] = k[i], values[row + i] = k.x[k.d + i];
    }
  }
};

// Queries times the factor [B*n*H, D], as they are multiplied; keys and values of all panels [blocks*P, D].
template <class T>
struct Prepared {
  Tensor queries, keys, values;

  explicit Prepared(const Geometry<T>& g)
      : queries({g.n_rows(), g.s.head_width}, dtype_of<T>, Device::cuda),
        keys({g.n_blocks() * g.panel, g.s.head_width}, dtype_of<T>, Device::cuda),
        values(keys.shape(), dtype_of<T>, Device::cuda) {
    for_each_warp(g.n_rows(), PrepareQueries<T>{g, data<T>(queries)});
    for_each_warp(g.n_sources(), PrepareKeys<T>{g, data<T>(keys), data<T>(values)});
  }
};

// bf16 as f32, which the kernels compute in.
inline Tensor widened(const Tensor& t) { return t ? to(t, DType::f32) : t; }

// Tile `at` of all: rows row..row+n-1 (query, head) of one block, the first of them (query, head), and the keys
// first..last-1 of its panel, all that one of them sees. n <= 0 where a block has fewer tiles than others.
struct QueryTile {
  Block block;
  int64_t row, panel;
  int n, query, head, first, last;

  template <class T>
  __device__ QueryTile(const Geometry<T>& g, int64_t at) : block(g.block(at / g.tiles_per_block())) {
    const int64_t from = at % g.tiles_per_block() * kTile;
    row = block.row0 + from, panel = at / g.tiles_per_block() * g.panel;
    n = int(min(block.queries * g.s.heads - from, int64_t{kTile}));
    query = int(from / g.s.heads), head = int(from % g.s.heads);
    first = g.first_seen(block, query), last = g.last_seen(int((from + n - 1) / g.s.heads));
  }
};

}  // namespace rondo::cuda
