// The backward pass of attention before and behind its products: what the softmax's normalisation brings in, and the
// way from the gradients of prepared queries, keys and values to those of the inputs.
#pragma once
#include "cuda/attention.cuh"

namespace rondo::cuda {

// Of each row its lse, times a factor, and <dy, y>.
template <class T>
struct alignas(2 * sizeof(T)) RowNumbers {
  T lse, along;
};
template <class E>
struct FindRowNumbers {
  using T = computed_t<E>;
  int64_t d;
  const E *dy, *y;
  const T* lse;
  RowNumbers<T>* numbers;
  template <class L>
  __device__ void operator()(L, int64_t row, bool there) const {
    const T along = head_dot<L>(dy + row * d, y + row * d, int(d));
    if (there && threadIdx.x % L::kCount == 0) numbers[row] = {lse[row], along};
  }
};
template <class T>
RowNumbers<T>* numbers_of(const Tensor& numbers) {  // [rows, 2]
  return reinterpret_cast<RowNumbers<T>*>(data<T>(numbers));
}

// From the gradient of a prepared query to that of q.
template <class L, class E, class T>
__device__ void query_backward(const Geometry<E>& g, const Head<E, L>& q, const T* gradient, bool there, E* dq,
                               T* dscale) {
  const auto back = [&](int i) {
    auto r = load_pairs<L>(gradient, q.d, i);
#pragma unroll
    for (int e = 0; e < L::kN; ++e) r.low[e] *= T(g.s.factor), r.high[e] *= T(g.s.factor);
    turn<L>(q.angles, q.d, i, T(-1), r);
    return r;
  };
  head_backward(q, back, there, dq, dscale);
}
template <class E>
struct QueriesBackward {
  using T = computed_t<E>;
  Geometry<E> g;
  const T* dqueries;
  E* dq;
  template <class L>
  __device__ void operator()(L, int64_t row, bool there, T* dscale) const {
    const int64_t at = row * g.s.head_width;
    const auto q = g.template query<L>(g.q + at, g.position(row));
    query_backward(g, q, dqueries + at, there, dq + at, dscale);
  }
};

// The gradients of all panels' keys and values [rows, D], in parts, `size` numbers from one to the next: each comes
// from `share` queries of a block. A part that no query of its share sees is not there.
inline constexpr int kMostShares = 4;
template <class T>
struct PanelGradients {
  const T *dkeys, *dvalues;
  int64_t size;
  int share;
};

// A key's gradients in all its roles, each turned back by its own angles, are added up before its norm is undone.
template <class E>
struct KeysBackward {
  using T = computed_t<E>;
  Geometry<E> g;
  PanelGradients<T> panels;
  E *dkv, *dmemory;

  // The run at i of `gradients`, in all parts of a role.
  template <class L>
  __device__ Pairs<T, L::kN> of_role(const T* gradients, const Role& role, int i) const {
    const int d = int(g.s.head_width);
    const Span by = g.seen_by(g.block(role.row / g.panel), int(role.position), 1);
    Pairs<T, L::kN> sum = {};
    const int first = by.first / panels.share, n = (by.last + panels.share - 1) / panels.share - first;
#pragma unroll
    for (int k = 0; k < kMostShares; ++k) {  // what is not there is read elsewhere: no load waits for another
      const auto r = load_pairs<L>(gradients + (k < n ? first + k : 0) * panels.size + role.row * d, d, i);
#pragma unroll
      for (int e = 0; e < L::kN; ++e) sum.low[e] += k < n ? r.low[e] : T(0), sum.high[e] += k < n ? r.high[e] : T(0);
    }
    return sum;
  }
  template <class L>
  __device__ void operator()(L, int64_t at, bool there, T* dscale) const {
    const Source from = g.source(at);
    const auto k = g.template key<L>(from);
    E* const pair = (from.in_memory ? dmemory : dkv) + from.offset;
    const auto over_roles = [&](const T* gradients, int i, bool turned) {
      Pairs<T, L::kN> sum = {};
      for (int r = 0; r < from.n_roles; ++r) {
        auto one = of_role<L>(gradients, from.roles[r], i);
        if (turned) turn<L>(g.key_angles(from.roles[r]), k.d, i, T(-1), one);
#pragma unroll
        for (int e = 0; e < L::kN; ++e) sum.low[e] += one.low[e], sum.high[e] += one.high[e];
      }
      return sum;
    };
    head_backward(
        k, [&](int i) { return over_roles(panels.dkeys, i, true); }, there, pair, dscale);
    if (there)
      L::over(k.half(), [&](int i) { store_pairs<L>(over_roles(panels.dvalues, i, false), k.d, i, pair + k.d); });
  }
};

template <class E, class T = computed_t<E>>
void keys_backward(const Geometry<E>& g, const PanelGradients<T>& panels, const AttentionGradients& out) {
  for_each_head_summed<E>(g.n_sources(), g.s.head_width,
                          KeysBackward<E>{g, panels, data<E>(out.dkv), data_or_null<E>(out.dmemory)}, out.dk_scale);
}

}  // namespace rondo::cuda
