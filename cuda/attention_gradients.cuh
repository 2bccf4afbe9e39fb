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
  T factor;
  RowNumbers<T>* numbers;
  __device__ void operator()(int64_t row, int64_t) const {
    const E *a = dy + row * d, *b = y + row * d;
    const T sum = warp_sum<T>(d, [=](int64_t i) { return T(a[i]) * T(b[i]); });
    if (lane_of_warp() == 0) numbers[row] = {lse[row] * factor, sum};
  }
};
// [rows, 2]
template <class E, class T = computed_t<E>>
Tensor row_numbers(const Geometry<E>& g, const Tensor& dy, const Tensor& y, const Tensor& lse, T factor) {
  const Tensor numbers({g.n_rows(), 2}, dtype_of<T>, Device::cuda);
  for_each_warp(g.n_rows(), FindRowNumbers<E>{g.s.head_width, data<E>(dy), data<E>(y), data<T>(lse), factor,
                                              reinterpret_cast<RowNumbers<T>*>(data<T>(numbers))});
  return numbers;
}
template <class T>
const RowNumbers<T>* numbers_of(const Tensor& numbers) {
  return reinterpret_cast<const RowNumbers<T>*>(data<T>(numbers));
}

// From the gradients of the prepared queries to those of q; each warp adds up its part of dscale.
template <class E>
struct QueriesBackward {
  using T = computed_t<E>;
  Geometry<E> g;
  const T* dqueries;
  E* dq;
  T* dscale;
  __device__ void operator()(int64_t row, int64_t warp) const {
    const Head<E> q = g.query(row);
    const T* dy = dqueries + row * q.d;
    const auto back = [&](int64_t i) { return turned_back(dy, q.angles, q.d, i) * T(g.s.factor); };
    head_backward(q, back, dq + row * q.d, dscale + warp * q.d, row != warp);
  }
};

// The gradients of all panels' keys and values [rows, D], in parts, `size` numbers from one to the next: each comes
// from `share` queries of a block. A part that no query of its share sees is not there.
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
  T* dscale;
  __device__ void operator()(int64_t at, int64_t warp) const {
    const Source from = g.source(at);
    const Head<E> k = g.key(from);
    E* const pair = (from.in_memory ? dmemory : dkv) + from.offset;
    const auto over_roles = [&](const auto& f) {
      T sum = 0;
      for (int r = 0; r < from.n_roles; ++r) {
        const Role& role = from.roles[r];
        const Span by = g.seen_by(g.block(role.row / g.panel), int(role.position), 1);
        for (int j = by.first; j < by.last; j = (j / panels.share + 1) * panels.share)
          sum += f(role, j / panels.share * panels.size + role.row * k.d);
      }
      return sum;
    };
    const auto back = [&](int64_t i) {
      return over_roles(
          [&](const Role& r, int64_t row) { return turned_back(panels.dkeys + row, g.key_angles(r), k.d, i); });
    };
    head_backward(k, back, pair, dscale + warp * k.d, at != warp);
    for (int64_t i = lane_of_warp(); i < k.d; i += 32)
      pair[k.d + i] = E(over_roles([&](const Role&, int64_t row) { return panels.dvalues[row + i]; }));
  }
};

template <class E, class T = computed_t<E>>
void heads_backward(const Geometry<E>& g, const Tensor& dqueries, const PanelGradients<T>& panels,
                    const AttentionGradients& out) {
  const auto parts = [&](const Tensor& scale, int64_t n) {
    return scale ? Tensor({warps_for(n), g.s.head_width}, dtype_of<T>, Device::cuda) : Tensor();
  };
  const Tensor dq_scale = parts(out.dq_scale, g.n_rows()), dk_scale = parts(out.dk_scale, g.n_sources());
  for_each_warp(g.n_rows(), QueriesBackward<E>{g, data<T>(dqueries), data<E>(out.dq), data_or_null<T>(dq_scale)});
  for_each_warp(g.n_sources(),
                KeysBackward<E>{g, panels, data<E>(out.dkv), data_or_null<E>(out.dmemory), data_or_null<T>(dk_scale)});
  if (out.dq_scale) sum_to(Cuda{}, dq_scale, out.dq_scale);
  if (out.dk_scale) sum_to(Cuda{}, dk_scale, out.dk_scale);
}

}  // namespace rondo::cuda
