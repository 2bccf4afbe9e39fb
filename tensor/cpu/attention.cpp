// Multi-query attention, forward and backward, in tiles that fit the cache. All heads of a query share one key/value
// head, so a tile of queries with all their heads is one tall matrix [queries * heads, D] as it lies in memory, and
// scores are one product. Only the visible keys are multiplied; nothing of the size of the scores is kept for the
// backward pass. docs/attention.md derives it.
#include <algorithm>

#include "tensor/cpu/gemm.h"
#include "tensor/cpu/heads.h"
#include "tensor/cpu/scratch.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

using cpu::View;

// Where everything is. A block is `width` queries of one sequence; its panel holds the keys and values it can see, as
// rows 0..P-1: with a window, what came before at 0..W-1 and its own at W..2W-1, else the S keys of its group.
template <class T>
struct Geometry {
  AttentionShape s;
  const T *q, *kv, *memory, *q_scale, *k_scale, *table;
  int64_t blocks, panel;

  Geometry(const AttentionShape& shape, const AttentionInputs& in) : s(shape) {
    const auto data = [](const Tensor& t) -> const T* { return t ? t.data<T>() : nullptr; };
    q = data(in.q), kv = data(in.kv), memory = data(in.memory), table = data(in.table);
    q_scale = data(in.q_scale), k_scale = data(in.k_scale);
    blocks = (s.n + s.width - 1) / s.width;
    panel = s.window ? 2 * s.width : s.keys;
  }

  int64_t queries(int64_t block) const { return std::min(s.width, s.n - block * s.width); }
  int64_t query_row(int64_t batch, int64_t block, int64_t j) const {
    return (batch * s.n + block * s.width + j) * s.heads;
  }
  // Rows of the panel that hold keys.
  int64_t first_key(int64_t block) const { return s.window && block == 0 ? s.width - s.memory : 0; }
  int64_t last_key(int64_t block) const { return s.window ? s.width + queries(block) : s.keys; }
  // The keys that query j of a block sees: exactly W of them, itself included, once there are that many.
  int64_t first_seen(int64_t block, int64_t j) const { return s.window ? std::max(first_key(block), j + 1) : 0; }
  int64_t last_seen(int64_t j) const { return s.window ? s.width + j + 1 : s.keys; }
  // (key, value) of a row of the panel, in kv or memory.
  int64_t kv_row(int64_t batch, int64_t block, int64_t row) const {
    return s.window ? batch * s.n + (block - 1) * s.width + row : (batch * blocks + block) * s.keys + row;
  }
  bool in_memory(int64_t block, int64_t row) const { return s.window && block == 0 && row < s.width; }
  int64_t memory_row(int64_t batch, int64_t row) const { return batch * s.memory + row - (s.width - s.memory); }
  const T* key(int64_t batch, int64_t block, int64_t row) const {
    const int64_t d2 = 2 * s.head_width;
    return in_memory(block, row) ? memory + memory_row(batch, row) * d2 : kv + kv_row(batch, block, row) * d2;
  }
  const T* query_angles(int64_t j) const { return table ? table + (s.width + j) * s.head_width : nullptr; }
  const T* key_angles(int64_t row) const { return table ? table + (2 * s.width + row) * s.head_width : nullptr; }

  // Queries of a tile: few, since all of them are multiplied with every key that one of them sees, but enough rows for
  // the products. They fill whole columns of a packed panel. A part is the queries that add up their key gradients.
  int64_t tile() const {
    const int64_t columns = cpu::panel_columns<T>(), rows = columns * s.heads;
    return std::min(s.width, columns * ((48 + rows - 1) / rows));
  }
  int64_t part() const { return std::min<int64_t>(s.width, (128 + tile() - 1) / tile() * tile()); }
};

// The prepared keys or the values of all blocks, packed as right-hand sides of products: [P, D] as they are, or
// transposed, [D, P].
template <class T>
struct Packed {
  int64_t k, n, size;
  Tensor data;

  Packed(const Geometry<T>& g, int64_t k, int64_t n)
      : k(k), n(n), size(cpu::packed_size<T>(k, n)), data({g.s.batch * g.blocks, size}, dtype_of<T>) {}

  void pack(int64_t block, View<T> b) { cpu::pack(k, n, b, data.template data<T>() + block * size); }
  // c [m, n] = a times the part of a block's matrix; c points to column 0.
  void product(int64_t m, View<T> a, int64_t block, const cpu::Part& part, T* c, int64_t ldc) const {
    cpu::gemm_packed(m, n, k, a, data.template data<T>() + block * size, c, ldc, false, part);
  }
};

template <class T>
struct Panels {
  Packed<T> keys_t;          // for scores: queries times [D, P]
  Packed<T> values_t, keys;  // backward: gradients times [D, P], and what comes of it times [P, D]
  Packed<T> values;          // forward: probabilities times [P, D]

  Panels(const Geometry<T>& g, bool backward)
      : keys_t(g, g.s.head_width, g.panel),
        values_t(g, backward ? g.s.head_width : 0, g.panel),
        keys(g, backward ? g.panel : 0, g.s.head_width),
        values(g, backward ? 0 : g.panel, g.s.head_width) {
    const int64_t d = g.s.head_width;
    parallel_for(g.s.batch * g.blocks, [&](int64_t i) {
      const int64_t batch = i / g.blocks, block = i % g.blocks;
      cpu::Scratch scratch;
      T *k = scratch.get<T>(g.panel * d), *v = scratch.get<T>(g.panel * d);
      for (int64_t row = g.first_key(block); row < g.last_key(block); ++row) {
        const T* pair = g.key(batch, block, row);
        cpu::prepare_head(pair, g.k_scale, g.key_angles(row), d, k + row * d);
        std::copy(pair + d, pair + 2 * d, v + row * d);
      }
      keys_t.pack(i, {k, 1, d});
      if (backward)
        values_t.pack(i, {v, 1, d}), keys.pack(i, {k, d, 1});
      else
        values.pack(i, {v, d, 1});
    });
  }
};

// A tile of queries: rows (query, head) of scores against the keys `first..last-1` of the panel. The scores begin at
// the column `base`, where a packed panel begins.
template <class T>
struct Tile {
  int64_t batch, block, j0, j1, rows, first, last, base, last_panel, ld;

  Tile(const Geometry<T>& g, int64_t batch, int64_t block, int64_t j0, int64_t j1)
      : batch(batch), block(block), j0(j0), j1(j1) {
    const int64_t columns = cpu::panel_columns<T>();
    rows = (j1 - j0) * g.s.heads;
    first = g.first_seen(block, j0), last = g.last_seen(j1 - 1);
    base = first / columns * columns;
    last_panel = (last + columns - 1) / columns;
    ld = last_panel * columns - base;
  }

  // Prepared queries times the factor, [rows, D].
  void load(const Geometry<T>& g, T* to) const {
    const int64_t d = g.s.head_width;
    const T* from = g.q + g.query_row(batch, block, j0) * d;
    for (int64_t r = 0; r < rows; ++r) {
      cpu::prepare_head(from + r * d, g.q_scale, g.query_angles(j0 + r / g.s.heads), d, to + r * d);
      cpu::lane_map(
          d, to + r * d, [&](const auto& x) { return x * T(g.s.factor); }, to + r * d);
    }
  }
  // left [rows, D] times the transposed keys or values of this block, for the visible columns.
  void times(const Geometry<T>& g, const T* left, const Packed<T>& right, T* scores) const {
    const int64_t d = g.s.head_width;
    right.product(rows, {left, d, 1}, batch * g.blocks + block, {0, d, base / cpu::panel_columns<T>(), last_panel},
                  scores - base, ld);
  }
  // y [rows, D] = the visible columns of scores times the keys or values of this block.
  void weigh(const Geometry<T>& g, const T* scores, const Packed<T>& right, T* y) const {
    const int64_t d = g.s.head_width, columns = cpu::panel_columns<T>();
    right.product(rows, {scores + first - base, ld, 1}, batch * g.blocks + block,
                  {first, last, 0, (d + columns - 1) / columns}, y, d);
  }
};

// Calls f(batch, block, j0, j1) in parallel for runs of at most `step` queries.
template <class T, class F>
void parallel_queries(const Geometry<T>& g, int64_t step, F&& f) {
  const int64_t per_block = (g.s.width + step - 1) / step;
  parallel_for(g.s.batch * g.blocks * per_block, [&](int64_t i) {
    const int64_t block = i / per_block % g.blocks, j0 = i % per_block * step;
    if (j0 < g.queries(block)) f(i / per_block / g.blocks, block, j0, std::min(j0 + step, g.queries(block)));
  });
}

template <class T>
void forward(const Geometry<T>& g, const Tensor& y, const Tensor& lse) {
  const Panels<T> panels(g, false);
  const int64_t d = g.s.head_width, heads = g.s.heads;
  parallel_queries(g, g.tile(), [&](int64_t batch, int64_t block, int64_t j0, int64_t j1) {
    const Tile<T> t(g, batch, block, j0, j1);
    cpu::Scratch scratch;
    T *queries = scratch.get<T>(t.rows * d), *scores = scratch.get<T>(t.rows * t.ld), *sums = scratch.get<T>(t.rows);
    t.load(g, queries);
    t.times(g, queries, panels.keys_t, scores);
    const int64_t row0 = g.query_row(batch, block, j0);
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t j = j0 + r / heads, from = g.first_seen(block, j) - t.base, to = g.last_seen(j) - t.base;
      T* row = scores + r * t.ld;
      const T highest = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(row + from, to - from).maxCoeff();
      cpu::lane_map(
          to - from, row + from, [&](const auto& x) { return cpu::exp_lanes(x - highest); }, row + from);
      sums[r] = cpu::lane_sum<T>(to - from, cpu::kSelf, row + from);
      std::fill(row + t.first - t.base, row + from, T(0));
      std::fill(row + to, row + t.last - t.base, T(0));
      lse.data<T>()[row0 + r] = highest + std::log(sums[r]);
    }
    T* out = y.data<T>() + row0 * d;
    t.weigh(g, scores, panels.values, out);
    for (int64_t r = 0; r < t.rows; ++r)
      cpu::lane_map(
          d, out + r * d, [&](const auto& x) { return x * (T(1) / sums[r]); }, out + r * d);
  });
}

// What the parts of the backward pass leave behind, to be added up in order: key and value gradients of each part's
// panel [P, D], and the gradients of the scales.
template <class T>
struct Parts {
  int64_t per_block, size;
  Tensor keys, values, q_scale, k_scale;
  T *dkeys, *dvalues;

  explicit Parts(const Geometry<T>& g)
      : per_block((g.s.width + g.part() - 1) / g.part()), size(g.panel * g.s.head_width) {
    const int64_t n = g.s.batch * g.blocks, d = g.s.head_width;
    keys = zeros({n * per_block, size}, dtype_of<T>);
    values = zeros({n * per_block, size}, dtype_of<T>);
    dkeys = keys.data<T>(), dvalues = values.data<T>();
    if (g.q_scale) q_scale = zeros({n * per_block, d}, dtype_of<T>);
    if (g.k_scale) k_scale = zeros({n, d}, dtype_of<T>);
  }
  T* dq_scale(int64_t part, int64_t d) const { return q_scale ? q_scale.data<T>() + part * d : nullptr; }
  T* dk_scale(int64_t block, int64_t d) const { return k_scale ? k_scale.data<T>() + block * d : nullptr; }
};

// One tile: recompute the probabilities, then dV += P^T dO, dS = P (dP - <dO, O>), dK += dS^T Q, dQ = dS K.
template <class T>
void backward_tile(const Geometry<T>& g, const Panels<T>& panels, const Tile<T>& t, const T* dy, const T* y,
                   const T* lse, T* dkeys, T* dvalues, T* dq, T* dq_scale) {
  const int64_t d = g.s.head_width, heads = g.s.heads, n_keys = t.last - t.first,
                row0 = g.query_row(t.batch, t.block, t.j0);
  cpu::Scratch scratch;
  T *queries = scratch.get<T>(t.rows * d), *p = scratch.get<T>(t.rows * t.ld), *ds = scratch.get<T>(t.rows * t.ld);
  dy += row0 * d, y += row0 * d, dq += row0 * d, lse += row0;
  t.load(g, queries);
  t.times(g, queries, panels.keys_t, p);
  t.times(g, dy, panels.values_t, ds);
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t j = t.j0 + r / heads, from = g.first_seen(t.block, j) - t.base, to = g.last_seen(j) - t.base;
    const T along = cpu::lane_sum<T>(d, cpu::kProduct, dy + r * d, y + r * d);
    T *pr = p + r * t.ld, *sr = ds + r * t.ld;
    cpu::lane_map(
        to - from, pr + from, [&](const auto& x) { return cpu::exp_lanes(x - lse[r]); }, pr + from);
    cpu::lane_map(
        to - from, sr + from, [&](const auto& x, const auto& w) { return w * (x - along); }, sr + from, pr + from);
    for (T* row : {pr, sr}) {
      std::fill(row + t.first - t.base, row + from, T(0));
      std::fill(row + to, row + t.last - t.base, T(0));
    }
  }
  t.weigh(g, ds, panels.keys, dq);
  p += t.first - t.base, ds += t.first - t.base;
  cpu::gemm<T>(n_keys, d, t.rows, {p, 1, t.ld}, {dy, d, 1}, dvalues + t.first * d, d, true);
  cpu::gemm<T>(n_keys, d, t.rows, {ds, 1, t.ld}, {queries, d, 1}, dkeys + t.first * d, d, true);
  const T* q = g.q + row0 * d;
  for (int64_t r = 0; r < t.rows; ++r) {
    T* dx = dq + r * d;
    cpu::lane_map(
        d, dx, [&](const auto& x) { return x * T(g.s.factor); }, dx);
    if (g.table) cpu::rotate_head_inverse(dx, g.query_angles(t.j0 + r / heads), d, dx);
    if (g.q_scale) cpu::l2_normalize_head_backward(dx, q + r * d, g.q_scale, d, dx, dq_scale);
  }
}

template <class T>
void add(int64_t n, const T* x, T* y) {
  cpu::lane_map(
      n, y, [](const auto& a, const auto& b) { return a + b; }, y, x);
}

// Adds up the parts for one row of (key, value): its gradient as row `row` of a block's panel, the key rotated back.
template <class T>
void add_role(const Geometry<T>& g, const Parts<T>& parts, int64_t block, int64_t row, T* sum, T* dkv) {
  const int64_t d = g.s.head_width;
  std::fill(sum, sum + d, T(0));
  for (int64_t part = block * parts.per_block; part < (block + 1) * parts.per_block; ++part) {
    add(d, parts.dkeys + part * parts.size + row * d, sum);
    add(d, parts.dvalues + part * parts.size + row * d, dkv + d);
  }
  if (g.table) cpu::rotate_head_inverse(sum, g.key_angles(row), d, sum);
  add(d, sum, dkv);
}

// Gradients of the keys and values: each is seen as its own block's, and with a window as the next block's memory.
template <class T>
void collect(const Geometry<T>& g, const Parts<T>& parts, const AttentionGradients& out) {
  const int64_t d = g.s.head_width, w = g.s.width;
  parallel_for(g.s.batch * g.blocks, [&](int64_t i) {
    const int64_t batch = i / g.blocks, block = i % g.blocks;
    cpu::Scratch scratch;
    T* sum = scratch.get<T>(d);
    const auto one = [&](int64_t row, T* dkv) {
      std::fill(dkv, dkv + 2 * d, T(0));
      add_role(g, parts, i, row, sum, dkv);
      if (g.s.window && row >= w && block + 1 < g.blocks) add_role(g, parts, i + 1, row - w, sum, dkv);
      if (g.k_scale)
        cpu::l2_normalize_head_backward(dkv, g.key(batch, block, row), g.k_scale, d, dkv, parts.dk_scale(i, d));
    };
    for (int64_t row = g.s.window ? w : 0; row < g.last_key(block); ++row)
      one(row, out.dkv.data<T>() + g.kv_row(batch, block, row) * 2 * d);
    if (g.s.window && block == 0)
      for (int64_t row = w - g.s.memory; row < w; ++row)
        one(row, out.dmemory.data<T>() + g.memory_row(batch, row) * 2 * d);
  });
}

template <class T>
void backward(const Geometry<T>& g, const Tensor& dy, const Tensor& y, const Tensor& lse,
              const AttentionGradients& out) {
  const Panels<T> panels(g, true);
  const Parts<T> parts(g);
  const int64_t d = g.s.head_width, step = g.part();
  parallel_queries(g, step, [&](int64_t batch, int64_t block, int64_t j0, int64_t j1) {
    const int64_t part = (batch * g.blocks + block) * parts.per_block + j0 / step;
    for (int64_t j = j0; j < j1; j += g.tile())
      backward_tile(g, panels, Tile<T>(g, batch, block, j, std::min(j + g.tile(), j1)), dy.data<T>(), y.data<T>(),
                    lse.data<T>(), parts.dkeys + part * parts.size, parts.dvalues + part * parts.size, out.dq.data<T>(),
                    parts.dq_scale(part, d));
  });
  collect(g, parts, out);
  if (g.q_scale) sum_to(Cpu{}, parts.q_scale, out.dq_scale);
  if (g.k_scale) sum_to(Cpu{}, parts.k_scale, out.dk_scale);
}

}  // namespace

void attention_forward(Cpu, const AttentionShape& how, const AttentionInputs& in, const Tensor& y, const Tensor& lse) {
  if (y.numel() == 0) return;
  dispatch_float(y.dtype(), [&]<class T>() { forward(Geometry<T>(how, in), y, lse); });
}

void attention_backward(Cpu, const AttentionShape& how, const AttentionInputs& in, const Tensor& dy, const Tensor& y,
                        const Tensor& lse, const AttentionGradients& out) {
  dispatch_float(y.dtype(), [&]<class T>() { backward(Geometry<T>(how, in), dy, y, lse, out); });
}

}  // namespace rondo
