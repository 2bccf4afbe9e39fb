// The two gates: geglu of the feed-forward layers and the fixed gate of the recurrent states.
#include "tensor/cpu/lanes.h"
#include "tensor/cpu/reduce.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

// Phi at the gate gives both the value and the slope of gelu: one rational function and one exponential in all.
template <class E>
void geglu_row_backward(int64_t width, const E* dy, const E* a, const E* gate, E* da, E* dgate) {
  using T = computed_t<E>;
  const auto rule = [](const auto& d, const auto& v, const auto& g, auto& dv, auto& dg) {
    const plain_t<decltype(g)> cdf = normal_cdf(g);
    dv = d * (g * cdf);
    dg = d * v * Gelu::slope_at(g, cdf);
  };
  int64_t i = 0;
  const auto lanes = [&]<int64_t N>(std::integral_constant<int64_t, N>) {
    for (; i + N <= width; i += N) {
      LanesOf<T, N> dv, dg;
      rule(lanes_at<N>(dy + i), lanes_at<N>(a + i), lanes_at<N>(gate + i), dv, dg);
      put_lanes<N>(da + i, dv), put_lanes<N>(dgate + i, dg);
    }
  };
  lanes(std::integral_constant<int64_t, kLanes<T>>());
  lanes(std::integral_constant<int64_t, kShort<T>>());
  const int64_t n = width - i;
  LanesOf<T, kShort<T>> dv, dg;
  rule(some_lanes(dy + i, n), some_lanes(a + i, n), some_lanes(gate + i, n), dv, dg);
  put_some_lanes(da + i, dv, n), put_some_lanes(dgate + i, dg, n);
}

// The weight of the new state, one a column.
template <class T>
void gate_weights(const T* beta, int64_t d, T* g) {
  lane_map(
      d, g, [](const auto& b) { return Sigmoid().value(b); }, beta);
}

}  // namespace

void geglu_forward(Cpu, const Tensor& x, const Tensor& y) {
  dispatch_activation(x.dtype(), [&]<class T>() {
    const int64_t width = row_width(y);
    const T* xs = x.data<T>();
    T* ys = y.data<T>();
    const auto gated = [](const auto& a, const auto& gate) -> plain_t<decltype(a)> { return a * Gelu().value(gate); };
    parallel_chunks(row_count(y), rows_per_tile(2 * width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* a = xs + 2 * i * width;
        lane_map(width, ys + i * width, gated, a, a + width);
      }
    });
  });
}

void geglu_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  dispatch_activation(x.dtype(), [&]<class T>() {
    const int64_t width = row_width(dy);
    const T *dys = dy.data<T>(), *xs = x.data<T>();
    T* dxs = dx.data<T>();
    parallel_chunks(row_count(dy), rows_per_tile(2 * width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* a = xs + 2 * i * width;
        T* da = dxs + 2 * i * width;
        geglu_row_backward(width, dys + i * width, a, a + width, da, da + width);
      }
    });
  });
}

void state_gate_forward(Cpu, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& y) {
  dispatch_float(c.dtype(), [&]<class T>() {
    const int64_t d = beta.numel();
    const T *cs = c.data<T>(), *zs = z.data<T>();
    T* ys = y.data<T>();
    Scratch scratch;
    T* g = scratch.get<T>(d);
    gate_weights(beta.data<T>(), d, g);
    const auto mix = [](const auto& old, const auto& now, const auto& w) { return w * now + (T(1) - w) * old; };
    parallel_chunks(row_count(c), rows_per_tile(d), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) lane_map(d, ys + i * d, mix, cs + i * d, zs + i * d, g);
    });
  });
}

// dc = (1 - g) dy, dz = g dy, dbeta = g (1 - g) * the sum over the rows of dy (z - c).
void state_gate_backward(Cpu, const Tensor& dy, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& dc,
                         const Tensor& dz, const Into& dbeta) {
  dispatch_float(c.dtype(), [&]<class T>() {
    constexpr int64_t kRows = 32;  // of one part of dbeta
    const int64_t d = beta.numel(), n_rows = row_count(c), n_parts = (n_rows + kRows - 1) / kRows;
    const T *dys = dy.data<T>(), *cs = c.data<T>(), *zs = z.data<T>();
    T *dcs = dc.data<T>(), *dzs = dz.data<T>();
    Scratch scratch;
    T *g = scratch.get<T>(d), *sums = scratch.get<T>(d), *parts = scratch.get<T>(n_parts * d);
    gate_weights(beta.data<T>(), d, g);
    const auto times = [](const auto& v, const auto& w) { return v * w; };
    const auto times_rest = [](const auto& v, const auto& w) { return v * (T(1) - w); };
    const auto gather = [](const auto& p, const auto& v, const auto& now, const auto& old) {
      return p + v * (now - old);
    };
    parallel_for(n_parts, [&](int64_t k) {
      T* part = parts + k * d;
      std::fill(part, part + d, T(0));
      for (int64_t i = k * kRows; i < std::min(k * kRows + kRows, n_rows); ++i) {
        lane_map(d, dcs + i * d, times_rest, dys + i * d, g);
        lane_map(d, dzs + i * d, times, dys + i * d, g);
        lane_map(d, part, gather, part, dys + i * d, zs + i * d, cs + i * d);
      }
    });
    T* db = dbeta.tensor.data<T>();
    sum_middle(parts, 1, n_parts, d, sums);
    const auto close = [](const auto& v, const auto& w) { return v * w * (T(1) - w); };
    const auto close_onto = [=](const auto& v, const auto& w, const auto& so_far) { return so_far + close(v, w); };
    if (dbeta.adds)
      lane_map(d, db, close_onto, sums, g, db);
    else
      lane_map(d, db, close, sums, g);
  });
}

}  // namespace rondo
