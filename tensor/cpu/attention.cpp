// Multi-query attention, forward and backward, in tiles that fit the cache. All heads of a query share one key/value
// head, so a tile of queries with all their heads is one tall matrix [queries * heads, D] as it lies in memory, and
// scores are one product. Only the visible keys are multiplied; nothing of the size of the scores is kept for the
// backward pass. docs/attention.md derives it. E is what queries, keys and values are, T what is computed in.
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
// rows 0..P-1: with a window, what came before and from `lead` on its own, else the S keys of its group.
template <class E>
struct Geometry {
  using T = computed_t<E>;
  AttentionShape s;
  const E *q, *kv, *memory;
  const T *q_scale, *k_scale, *table;
  int64_t blocks, lead, panel, own;  // own: where a block's own positions begin in the table

  Geometry(const AttentionShape& shape, const AttentionInputs& in) : s(shape) {
    const auto numbers = [](const Tensor& t) -> const E* { return t ? t.data<E>() : nullptr; };
    const auto constants = [](const Tensor& t) -> const T* { return t ? t.data<T>() : nullptr; };
    q = numbers(in.q), kv = numbers(in.kv), memory = numbers(in.memory);
    q_scale = constants(in.q_scale), k_scale = constants(in.k_scale), table = constants(in.table);
    blocks = (s.n + s.width - 1) / s.width;
    lead = blocks > 1 ? s.width : s.memory;
    panel = s.window ? lead + s.width : s.keys;
    own = in.table ? in.table.dim(1) / 2 : 0;
  }

  int64_t queries(int64_t block) const { return std::min(s.width, s.n - block * s.width); }
  int64_t query_row(int64_t batch, int64_t block, int64_t j) const {
    return (batch * s.n + block * s.width + j) * s.heads;
  }
  // Rows of the panel that hold keys.
  int64_t first_key(int64_t block) const { return s.window && block == 0 ? lead - s.memory : 0; }
  int64_t last_key(int64_t block) const { return s.window ? lead + queries(block) : s.keys; }
  // The keys that query j of a block sees: exactly W of them, itself included, once there are that many.
  int64_t first_seen(int64_t block, int64_t j) const {
    return s.window ? std::max(first_key(block), lead + j + 1 - s.width) : 0;
  }
  int64_t last_seen(int64_t j) const { return s.window ? lead + j + 1 : s.keys; }
  // (key, value) of a row of the panel, in kv or memory.
  int64_t kv_row(int64_t batch, int64_t block, int64_t row) const {
    return s.window ? batch * s.n + block * s.width + row - lead : (batch * blocks + block) * s.keys + row;
  }
  bool in_memory(int64_t block, int64_t row) const { return s.window && block == 0 && row < lead; }
  int64_t memory_row(int64_t batch, int64_t row) const { return batch * s.memory + row - (lead - s.memory); }
  const E* key(int64_t batch, int64_t block, int64_t row) const {
    const int64_t d2 = 2 * s.head_width;
    return in_memory(block, row) ? memory + memory_row(batch, row) * d2 : kv + kv_row(batch, block, row) * d2;
  }
  const T* query_angles(int64_t j) const { return table ? table + (own + j) * s.head_width : nullptr; }
  const T* key_angles(int64_t row) const { return table ? table + (3 * own + row - lead) * s.head_width : nullptr; }

  // Queries of a tile: few, since all of them are multiplied with every key that one of them sees, but enough rows for
  // the products. They fill whole columns of a packed panel.
  int64_t tile() const {
    const int64_t columns = cpu::column_step<E>(), rows = columns * s.heads;
    return std::min(s.width, columns * ((48 + rows - 1) / rows));
  }
  // The queries that add up their key gradients in one panel: 128 or more. There are about 32 parts, or one for each
  // block where there are more blocks: with parts of 128 their panels would grow with the square of the window.
  int64_t part() const {
    const int64_t panels = s.batch * blocks, parts = (32 + panels - 1) / panels;
    const int64_t queries = std::max<int64_t>(128, (s.width + parts - 1) / parts);
    return std::min(s.width, (queries + tile() - 1) / tile() * tile());
  }
};

// The prepared keys or the values of all blocks, packed as right-hand sides of products: [P, D] as they are, or
// transposed, [D, P].
template <class E>
struct Packed {
  using T = computed_t<E>;
  int64_t k, n, size;
  Tensor data;

  Packed(const Geometry<E>& g, int64_t k, int64_t n)
      : k(k), n(n), size(cpu::packed_size<E>(k, n)), data({g.s.batch * g.blocks, size}, dtype_of<T>) {}

  template <class S>
  void pack(int64_t block, View<S> b) {
    cpu::pack<E>(k, n, b, data.template data<T>() + block * size);
  }
  // c [m, n] = a times the part of a block's matrix; c points to column 0.
  void product(int64_t m, View<E> a, int64_t block, const cpu::Part& part, T* c, int64_t ldc) const {
    cpu::gemm_part(m, n, k, a, {data.template data<T>() + block * size}, c, ldc, false, part);
  }
};

template <class E>
struct Panels {
  using T = computed_t<E>;
  Packed<E> keys_t;          // for scores: queries times [D, P]
  Packed<E> values_t, keys;  // backward: gradients times [D, P], and what comes of it times [P, D]
  Packed<E> values;          // forward: probabilities times [P, D]

  Panels(const Geometry<E>& g, bool backward)
      : keys_t(g, g.s.head_width, g.panel),
        values_t(g, backward ? g.s.head_width : 0, g.panel),
        keys(g, backward ? g.panel : 0, g.s.head_width),
        values(g, backward ? 0 : g.panel, g.s.head_width) {
    const int64_t d = g.s.head_width;
    parallel_for(g.s.batch * g.blocks, [&](int64_t i) {
      const int64_t batch = i / g.blocks, block = i % g.blocks, first = g.first_key(block), last = g.last_key(block);
      cpu::Scratch scratch;
      T* k = scratch.get<T>(g.panel * d);
      E* v = scratch.get<E>(g.panel * d);
      for (int64_t row = first; row < last; ++row) {
        const E* pair = g.key(batch, block, row);
        cpu::prepare_head(pair, g.k_scale, g.key_angles(row), d, k + row * d);
        std::copy(pair + d, pair + 2 * d, v + row * d);
      }
      for (const auto& [from, to] : {std::pair{int64_t{0}, first}, {last, g.panel}})  // rows without keys
        std::fill(k + from * d, k + to * d, T(0)), std::fill(v + from * d, v + to * d, E(0));
      keys_t.pack(i, View<T>{k, 1, d});
      if (backward)
        values_t.pack(i, View<E>{v, 1, d}), keys.pack(i, View<T>{k, d, 1});
      else
        values.pack(i, View<E>{v, d, 1});
    });
  }
};

// A tile of queries: rows (query, head) of scores against the keys `first..last-1` of the panel. The scores begin at
// the column `base`, where a packed panel begins. Products over keys begin at `start`, as gemm_part wants it.
template <class E>
struct Tile {
  using T = computed_t<E>;
  int64_t batch, block, j0, j1, rows, first, last, base, start, last_column, ld;

  Tile(const Geometry<E>& g, int64_t batch, int64_t block, int64_t j0, int64_t j1)
      : batch(batch), block(block), j0(j0), j1(j1) {
    const int64_t columns = cpu::column_step<E>();
    rows = (j1 - j0) * g.s.heads;
    first = g.first_seen(block, j0), last = g.last_seen(j1 - 1);
    constexpr bool narrow = std::is_same_v<E, bf16>;
    const int64_t step = narrow ? std::max<int64_t>(columns, 32) : columns;
    base = first / step * step;
    start = narrow ? base : first;
    last_column = (last + columns - 1) / columns * columns;
    ld = last_column - base;
  }

  // Prepared queries times the factor, [rows, D].
  void load(const Geometry<E>& g, E* to) const {
    const int64_t d = g.s.head_width;
    const E* from = g.q + g.query_row(batch, block, j0) * d;
    cpu::Scratch scratch;
    T* query = scratch.get<T>(d);
    for (int64_t r = 0; r < rows; ++r) {
      cpu::prepare_head(from + r * d, g.q_scale, g.query_angles(j0 + r / g.s.heads), d, query);
      cpu::lane_map(
          d, to + r * d, [&](const auto& x) { return x * T(g.s.factor); }, query);
    }
  }
  // left [rows, D] times the transposed keys or values of this block, for the visible columns.
  void times(const Geometry<E>& g, const E* left, const Packed<E>& right, T* scores) const {
    const int64_t d = g.s.head_width;
    right.product(rows, {left, d, 1}, batch * g.blocks + block, {0, d, base, last_column}, scores - base, ld);
  }
  // Zeros where row r of what goes through `weigh` sees nothing.
  void mask(E* row, int64_t from, int64_t to) const {
    std::fill(row + start - base, row + from, E(0));
    std::fill(row + to, row + last - base, E(0));
  }
  // y [rows, D] = the visible columns of scores times the keys or values of this block.
  void weigh(const Geometry<E>& g, const E* scores, const Packed<E>& right, T* y) const {
    const int64_t d = g.s.head_width;
    right.product(rows, {scores + start - base, ld, 1}, batch * g.blocks + block, {start, last, 0, d}, y, d);
  }
};

// Where the sums that become `to` are made: there, or apart where they are rounded at the end.
template <class E>
computed_t<E>* sums_of(E* to, int64_t n, cpu::Scratch& scratch) {
  if constexpr (std::is_same_v<E, bf16>)
    return scratch.get<float>(n);
  else
    return to;
}

// Calls f(batch, block, j0, j1) in parallel for runs of at most `step` queries; some may hold none.
template <class E, class F>
void parallel_queries(const Geometry<E>& g, int64_t step, F&& f) {
  const int64_t per_block = (g.s.width + step - 1) / step;
  parallel_for(g.s.batch * g.blocks * per_block, [&](int64_t i) {
    const int64_t block = i / per_block % g.blocks, j0 = i % per_block * step;
    f(i / per_block / g.blocks, block, j0, std::min(j0 + step, g.queries(block)));
  });
}

template <class E>
void forward(const Geometry<E>& g, const Tensor& y, const Tensor& lse) {
  using T = computed_t<E>;
  const Panels<E> panels(g, false);
  const int64_t d = g.s.head_width, heads = g.s.heads;
  parallel_queries(g, g.tile(), [&](int64_t batch, int64_t block, int64_t j0, int64_t j1) {
    if (j0 >= j1) return;
    const Tile<E> t(g, batch, block, j0, j1);
    const int64_t row0 = g.query_row(batch, block, j0);
    cpu::Scratch scratch;
    E* const queries = scratch.get<E>(t.rows * d);
    E* const weights = scratch.get<E>(t.rows * t.ld);
    T* const scores = sums_of(weights, t.rows * t.ld, scratch);
    T* const sums = scratch.get<T>(t.rows);
    t.load(g, queries);
    t.times(g, queries, panels.keys_t, scores);
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t j = j0 + r / heads, from = g.first_seen(block, j) - t.base, to = g.last_seen(j) - t.base;
      const T* row = scores + r * t.ld;
      E* weight = weights + r * t.ld;
      const T highest = cpu::lane_max(to - from, row + from);
      cpu::lane_map(
          to - from, weight + from, [&](const auto& x) { return cpu::exp_lanes(x - highest); }, row + from);
      sums[r] = cpu::lane_sum<T>(to - from, cpu::kSelf, weight + from);
      t.mask(weight, from, to);
      lse.data<T>()[row0 + r] = highest + std::log(sums[r]);
    }
    E* out = y.data<E>() + row0 * d;
    T* weighted = sums_of(out, t.rows * d, scratch);
    t.weigh(g, weights, panels.values, weighted);
    for (int64_t r = 0; r < t.rows; ++r)
      cpu::lane_map(
          d, out + r * d, [&](const auto& x) { return x * (T(1) / sums[r]); }, weighted + r * d);
  });
}

// What the parts of the backward pass leave behind, to be added up in order: key and value gradients of each part's
// panel [P, D], and the gradients of the scales.
template <class E>
struct Parts {
  using T = computed_t<E>;
  int64_t per_block, size;
  Tensor keys, values, q_scale, k_scale;

  explicit Parts(const Geometry<E>& g)
      : per_block((g.s.width + g.part() - 1) / g.part()), size(g.panel * g.s.head_width) {
    const int64_t n = g.s.batch * g.blocks, d = g.s.head_width;
    keys = Tensor({n * per_block, size}, dtype_of<T>), values = empty_like(keys);
    if (g.q_scale) q_scale = Tensor({n * per_block, d}, dtype_of<T>);
    if (g.k_scale) k_scale = Tensor({n, d}, dtype_of<T>);
  }
  // The numbers of one part or block, set to zero; null without such a tensor.
  static T* cleared(const Tensor& t, int64_t i) {
    if (!t) return nullptr;
    T* numbers = t.data<T>() + i * t.dim(1);
    std::fill(numbers, numbers + t.dim(1), T(0));
    return numbers;
  }
};

// One tile: recompute the probabilities, then dV += P^T dO, dS = P (dP - <dO, O>), dK += dS^T Q, dQ = dS K.
template <class E, class T = computed_t<E>>
void backward_tile(const Geometry<E>& g, const Panels<E>& panels, const Tile<E>& t, const E* dy, const E* y,
                   const T* lse, T* dkeys, T* dvalues, E* dq, T* dq_scale) {
  const int64_t d = g.s.head_width, heads = g.s.heads, n_keys = t.last - t.first,
                row0 = g.query_row(t.batch, t.block, t.j0), size = t.rows * t.ld;
  dy += row0 * d, y += row0 * d, dq += row0 * d, lse += row0;
  cpu::Scratch scratch;
  E *queries = scratch.get<E>(t.rows * d), *p = scratch.get<E>(size), *ds = scratch.get<E>(size);
  T *scores = sums_of(p, size, scratch), *dp = sums_of(ds, size, scratch), *dx = sums_of(dq, t.rows * d, scratch);
  t.load(g, queries);
  t.times(g, queries, panels.keys_t, scores);
  t.times(g, dy, panels.values_t, dp);
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t j = t.j0 + r / heads, from = g.first_seen(t.block, j) - t.base, to = g.last_seen(j) - t.base;
    const T along = cpu::lane_sum<T>(d, cpu::kProduct, dy + r * d, y + r * d);
    E *weight = p + r * t.ld, *slope = ds + r * t.ld;
    cpu::lane_map(
        to - from, weight + from, [&](const auto& x) { return cpu::exp_lanes(x - lse[r]); }, scores + r * t.ld + from);
    cpu::lane_map(
        to - from, slope + from, [&](const auto& x, const auto& w) { return w * (x - along); }, dp + r * t.ld + from,
        weight + from);
    t.mask(weight, from, to), t.mask(slope, from, to);
  }
  t.weigh(g, ds, panels.keys, dx);
  p += t.first - t.base, ds += t.first - t.base;
  cpu::gemm(n_keys, d, t.rows, View<E>{p, 1, t.ld}, View<E>{dy, d, 1}, dvalues + t.first * d, d, true);
  cpu::gemm(n_keys, d, t.rows, View<E>{ds, 1, t.ld}, View<E>{queries, d, 1}, dkeys + t.first * d, d, true);
  const E* q = g.q + row0 * d;
  for (int64_t r = 0; r < t.rows; ++r) {
    T* row = dx + r * d;
    cpu::lane_map(
        d, row, [&](const auto& x) { return x * T(g.s.factor); }, row);
    if (g.table) cpu::rotate_head_inverse(row, g.query_angles(t.j0 + r / heads), d, row);
    if (g.q_scale) cpu::l2_normalize_head_backward(row, q + r * d, g.q_scale, d, row, dq_scale);
    if constexpr (!std::is_same_v<E, T>) cpu::lane_map(d, dq + r * d, cpu::kSelf, row);
  }
}

template <class T>
void add(int64_t n, const T* x, T* y) {
  cpu::lane_map(
      n, y, [](const auto& a, const auto& b) { return a + b; }, y, x);
}

// Adds up the parts for one row of (key, value): its gradient as row `row` of a block's panel, the key rotated back.
template <class E, class T = computed_t<E>>
void add_role(const Geometry<E>& g, const Parts<E>& parts, int64_t block, int64_t row, T* sum, T* dkv) {
  const int64_t d = g.s.head_width;
  std::fill(sum, sum + d, T(0));
  for (int64_t part = block * parts.per_block; part < (block + 1) * parts.per_block; ++part) {
    add(d, parts.keys.template data<T>() + part * parts.size + row * d, sum);
    add(d, parts.values.template data<T>() + part * parts.size + row * d, dkv + d);
  }
  if (g.table) cpu::rotate_head_inverse(sum, g.key_angles(row), d, sum);
  add(d, sum, dkv);
}

// Gradients of the keys and values: each is seen as its own block's, and with a window as the next block's memory.
template <class E>
void collect(const Geometry<E>& g, const Parts<E>& parts, const AttentionGradients& out) {
  using T = computed_t<E>;
  const int64_t d = g.s.head_width, own = g.s.window ? g.lead : 0;
  parallel_for(g.s.batch * g.blocks, [&](int64_t i) {
    const int64_t batch = i / g.blocks, block = i % g.blocks;
    cpu::Scratch scratch;
    T *sum = scratch.get<T>(d), *pair = scratch.get<T>(2 * d), *dk_scale = Parts<E>::cleared(parts.k_scale, i);
    const auto one = [&](int64_t row, E* dkv) {
      std::fill(pair, pair + 2 * d, T(0));
      add_role(g, parts, i, row, sum, pair);
      if (g.s.window && row >= own && block + 1 < g.blocks) add_role(g, parts, i + 1, row - own, sum, pair);
      if (g.k_scale) cpu::l2_normalize_head_backward(pair, g.key(batch, block, row), g.k_scale, d, pair, dk_scale);
      cpu::lane_map(2 * d, dkv, cpu::kSelf, pair);
    };
    for (int64_t row = own; row < g.last_key(block); ++row)
      one(row, out.dkv.data<E>() + g.kv_row(batch, block, row) * 2 * d);
    if (g.s.window && block == 0)
      for (int64_t row = own - g.s.memory; row < own; ++row)
        one(row, out.dmemory.data<E>() + g.memory_row(batch, row) * 2 * d);
  });
}

template <class E>
void backward(const Geometry<E>& g, const Tensor& dy, const Tensor& y, const Tensor& lse,
              const AttentionGradients& out) {
  using T = computed_t<E>;
  const Panels<E> panels(g, true);
  const Parts<E> parts(g);
  const int64_t step = g.part();
  parallel_queries(g, step, [&](int64_t batch, int64_t block, int64_t j0, int64_t j1) {
    const int64_t part = (batch * g.blocks + block) * parts.per_block + j0 / step;
    T *dkeys = parts.cleared(parts.keys, part), *dvalues = parts.cleared(parts.values, part),
      *dq_scale = parts.cleared(parts.q_scale, part);
    for (int64_t j = j0; j < j1; j += g.tile())
      backward_tile<E>(g, panels, Tile<E>(g, batch, block, j, std::min(j + g.tile(), j1)), dy.data<E>(), y.data<E>(),
                       lse.data<T>(), dkeys, dvalues, out.dq.data<E>(), dq_scale);
  });
  collect(g, parts, out);
  if (g.q_scale) sum_to(Cpu{}, parts.q_scale, out.dq_scale);
  if (g.k_scale) sum_to(Cpu{}, parts.k_scale, out.dk_scale);
}

}  // namespace

void attention_forward(Cpu, const AttentionShape& how, const AttentionInputs& in, AttentionForward& out) {
  dispatch_activation(out.y.dtype(), [&]<class E>() { forward(Geometry<E>(how, in), out.y, out.lse); });
}

void attention_backward(Cpu, const AttentionShape& how, const AttentionInputs& in, const Tensor& dy,
                        const AttentionForward& forward, const AttentionGradients& out) {
  dispatch_activation(dy.dtype(), [&]<class E>() { backward(Geometry<E>(how, in), dy, forward.y, forward.lse, out); });
}

}  // namespace rondo
