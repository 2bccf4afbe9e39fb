// Norms of rows (layer_norm, rms_norm) and of heads (l2_normalize).
#include <cmath>

#include "tensor/cpu/heads.h"
#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

// dweight [width]: the sum over all rows of what rows(begin, end, part) adds to part [width]. Chunks of rows each have
// a part of their own, and the parts are added in order.
template <class T, class F>
void sum_over_rows(int64_t n_rows, int64_t width, const Into& dweight, const F& rows) {
  const int64_t grain = std::max(rows_per_tile(width), (n_rows + 63) / 64), n_parts = (n_rows + grain - 1) / grain;
  Scratch scratch;
  T *parts = scratch.get<T>(n_parts * width), *sums = dweight.tensor.data<T>();
  parallel_for(n_parts, [&](int64_t i) {
    flat(parts + i * width, width).setZero();
    rows(i * grain, std::min(i * grain + grain, n_rows), parts + i * width);
  });
  parallel_chunks(width, 128, [&](int64_t begin, int64_t end) {
    auto to = flat(sums + begin, end - begin);
    if (!dweight.adds) to.setZero();
    if (n_parts == 0) return;
    auto sum = flat(parts + begin, end - begin);
    for (int64_t i = 1; i < n_parts; ++i) sum += flat(parts + i * width + begin, end - begin);
    to += sum;
  });
}

// Counted from the first element: then a constant row has exactly its constant as mean.
template <class T>
T mean_of(const T* x, int64_t n) {
  const T origin = x[0];
  const auto distance = [=](const auto& v) { return v - origin; };
  return origin + lane_sum<T>(n, distance, x) / T(n);
}

// y = (x - mean) * rstd * gamma, where `mean` is null for the norm that does not centre. E is y's type.
template <class T, class E>
void norm_forward(const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, T* mean, T* rstd) {
  const int64_t n = row_width(x);
  const T *xs = x.data<T>(), *scale = gamma.data<T>();
  E* ys = y.data<E>();
  parallel_chunks(row_count(x), rows_per_tile(n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = xs + i * n;
      const T m = mean ? mean_of(row, n) : T(0);
      const auto square = [=](const auto& v) { return (v - m) * (v - m); };
      const T r = T(1) / std::sqrt(lane_sum<T>(n, square, row) / T(n) + T(eps));
      const auto normalize = [=](const auto& v, const auto& g) { return (v - m) * r * g; };
      lane_map(n, ys + i * n, normalize, row, scale);
      if (mean) mean[i] = m;
      rstd[i] = r;
    }
  });
}

// With n = (x - mean) * rstd and g = dy * gamma: dx = rstd * (g - <g> - n <g n>), where <> is the mean over the row and
// <g> comes from the centring; dgamma = the sum over the rows of dy * n.
template <class T, class E>
void norm_backward(const Tensor& dy, const Tensor& x, const Tensor& gamma, const T* mean, const T* rstd, const Into& dx,
                   const Into& dgamma) {
  const int64_t n = row_width(x);
  const E* dys = dy.data<E>();
  const T *xs = x.data<T>(), *scale = gamma.data<T>();
  T* dxs = dx.tensor.data<T>();
  sum_over_rows<T>(row_count(x), n, dgamma, [&](int64_t begin, int64_t end, T* part) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = xs + i * n;
      const E* drow = dys + i * n;
      const T m = mean ? mean[i] : T(0), r = rstd[i];
      const T offset = mean ? lane_sum<T>(n, kProduct, drow, scale) / T(n) : T(0);
      const auto along = [=](const auto& d, const auto& g, const auto& v) { return d * g * (v - m); };
      const T slope = r * r * lane_sum<T>(n, along, drow, scale, row) / T(n);
      const auto into_part = [=](const auto& p, const auto& d, const auto& v) { return p + d * (v - m) * r; };
      const auto into_dx = [=](const auto& d, const auto& g, const auto& v) {
        return r * (d * g - offset - (v - m) * slope);
      };
      lane_map(n, part, into_part, part, drow, row);
      const auto onto_dx = [=](const auto& d, const auto& g, const auto& v, const auto& so_far) {
        return so_far + into_dx(d, g, v);
      };
      if (dx.adds)
        lane_map(n, dxs + i * n, onto_dx, drow, scale, row, dxs + i * n);
      else
        lane_map(n, dxs + i * n, into_dx, drow, scale, row);
    }
  });
}

}  // namespace

void layer_norm_forward(Cpu, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd) {
  dispatch_activation(y.dtype(), [&]<class E>() {
    using T = computed_t<E>;
    norm_forward<T, E>(x, gamma, eps, y, mean.data<T>(), rstd.data<T>());
  });
}

void layer_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                         const Tensor& rstd, const Into& dx, const Into& dgamma) {
  dispatch_activation(dy.dtype(), [&]<class E>() {
    using T = computed_t<E>;
    norm_backward<T, E>(dy, x, gamma, mean.data<T>(), rstd.data<T>(), dx, dgamma);
  });
}

void rms_norm_forward(Cpu, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& rstd) {
  dispatch_float(x.dtype(), [&]<class T>() { norm_forward<T, T>(x, gamma, eps, y, nullptr, rstd.data<T>()); });
}

void rms_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& rstd, const Into& dx,
                       const Into& dgamma) {
  dispatch_float(x.dtype(), [&]<class T>() { norm_backward<T, T>(dy, x, gamma, nullptr, rstd.data<T>(), dx, dgamma); });
}

void l2_normalize_forward(Cpu, const Tensor& x, const Tensor& scale, const Tensor& y) {
  const int64_t d = scale.numel();
  dispatch_float(x.dtype(), [&]<class T>() {
    const T *xs = x.data<T>(), *factors = scale.data<T>();
    T* ys = y.data<T>();
    parallel_chunks(x.numel() / d, rows_per_tile(d), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) l2_normalize_head(xs + i * d, factors, d, ys + i * d);
    });
  });
}

void l2_normalize_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx,
                           const Into& dscale) {
  const int64_t d = scale.numel();
  dispatch_float(x.dtype(), [&]<class T>() {
    const T *dys = dy.data<T>(), *xs = x.data<T>(), *factors = scale.data<T>();
    T* dxs = dx.data<T>();
    sum_over_rows<T>(x.numel() / d, d, dscale, [&](int64_t begin, int64_t end, T* part) {
      for (int64_t i = begin; i < end; ++i)
        l2_normalize_head_backward(dys + i * d, xs + i * d, factors, d, dxs + i * d, part);
    });
  });
}

}  // namespace rondo
