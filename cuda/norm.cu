// Norms of rows (layer_norm, rms_norm) and of heads (l2_normalize). Rows that fit are held by a warp, which reads them
// once; others have a block each, which reads them again for each sum. What is added to the gradient of gamma is
// written down, and sum_to adds it up in a fixed order.
#include <cmath>

#include "cuda/held_row.cuh"
#include "cuda/norm.cuh"

namespace rondo {
namespace {

using namespace cuda;

constexpr unsigned kNormThreads = 128;
constexpr int64_t kMostParts = 512;  // that dgamma is added up from

template <class T>
struct Shared {
  T scratch[32];
};

// The sum over a row of f(i), by the whole block.
template <class T, class F>
__device__ T row_sum(int64_t n, Shared<T>& s, const F& f) {
  T sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += f(i);
  return block_reduce(sum, s.scratch, Sum{});
}

// y = (x - mean) * rstd * gamma, where `mean` is null for the norm that does not centre. E is the type of y.
template <class T, class E>
__global__ void norm_forward_kernel(int64_t n_rows, int64_t n, T eps, const T* x, const T* gamma, E* y, T* mean,
                                    T* rstd) {
  Shared<T>& s = shared<Shared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const T* from = x + row * n;
    const Norm<T> norm = norm_of(bool(mean), from[0], T(n), eps,
                                 [&](const auto& f) { return row_sum(n, s, [&](int64_t i) { return f(from[i]); }); });
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) y[row * n + i] = E(norm(from[i], gamma[i]));
    if (threadIdx.x == 0) {
      if (mean) mean[row] = norm.mean;
      rstd[row] = norm.rstd;
    }
  }
}

// With n = (x - mean) * rstd and g = dy * gamma: dx = rstd * (g - <g> - n <g n>), where <> is the mean over the row and
// <g> comes from the centring; the row's part of dgamma is dy * n.
template <class T, class E>
__global__ void norm_backward_kernel(int64_t n_rows, int64_t n, const E* dy, const T* x, const T* gamma, const T* mean,
                                     const T* rstd, bool adds, T* dx, T* parts) {
  Shared<T>& s = shared<Shared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const T* v = x + row * n;
    const E* d = dy + row * n;
    const T m = mean ? mean[row] : T(0), r = rstd[row];
    const T offset = mean ? row_sum(n, s, [=](int64_t i) { return T(d[i]) * gamma[i]; }) / T(n) : T(0);
    const T slope = r * r * row_sum(n, s, [=](int64_t i) { return T(d[i]) * gamma[i] * (v[i] - m); }) / T(n);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      T& out = dx[row * n + i];
      out = (adds ? out : T(0)) + r * (T(d[i]) * gamma[i] - offset - (v[i] - m) * slope);
      parts[row * n + i] = T(d[i]) * (v[i] - m) * r;
    }
  }
}

// The same for rows that a warp holds.
template <class E, int kRuns>
__global__ void __launch_bounds__(kThreads)
    held_norm_forward_kernel(int64_t n_rows, int n, float eps, const float* x, const float* gamma, E* y, float* mean,
                             float* rstd) {
  for (int64_t row = first_row(); row < n_rows; row += row_step()) {
    float v[kRuns][kHeld];
    over_runs<kRuns>(n, [&](int r, int i) { load_numbers(x + row * n + i, v[r]); });
    const Norm<float> norm = norm_of(bool(mean), x[row * n], float(n), eps, [&](const auto& f) {
      return held_sum<kRuns>(n, [&](int r, int e) { return f(v[r][e]); });
    });
    over_runs<kRuns>(n, [&](int r, int i) {
      float g[kHeld];
      load_numbers(gamma + i, g);
#pragma unroll
      for (int e = 0; e < kHeld; ++e) v[r][e] = norm(v[r][e], g[e]);
      store_numbers(v[r], y + row * n + i);
    });
    if (threadIdx.x % 32 == 0) {
      if (mean) mean[row] = norm.mean;
      rstd[row] = norm.rstd;
    }
  }
}

template <int kWidth>
struct HeldShared {
  alignas(16) float dgamma[kThreads / 32][kWidth];
};
// Each warp adds up dgamma over its rows, in shared memory: so registers are left for four blocks a processor. Each
// block leaves a row of parts [blocks, n].
template <class E, int kRuns>
__global__ void __launch_bounds__(kThreads, kRuns <= 4 ? 4 : 2)
    held_norm_backward_kernel(int64_t n_rows, int n, const E* dy, const float* x, const float* gamma, const float* mean,
                              const float* rstd, bool adds, float* dx, float* parts) {
  auto& s = shared<HeldShared<32 * kRuns * kHeld>>();
  float* const dgamma = s.dgamma[threadIdx.x / 32];
  over_runs<kRuns>(n, [&](int, int i) { store_numbers<kHeld>({}, dgamma + i); });
  for (int64_t row = first_row(); row < n_rows; row += row_step()) {
    const float m = mean ? mean[row] : 0, factor = rstd[row];
    float v[kRuns][kHeld], d[kRuns][kHeld];  // normed x, and dy * gamma
    over_runs<kRuns>(n, [&](int r, int i) {
      load_numbers(x + row * n + i, v[r]);
      load_numbers(dy + row * n + i, d[r]);
    });
    over_runs<kRuns>(n, [&](int r, int i) {
      float g[kHeld], sum[kHeld];
      load_numbers(gamma + i, g);
      load_numbers(dgamma + i, sum);
#pragma unroll
      for (int e = 0; e < kHeld; ++e) {
        v[r][e] = (v[r][e] - m) * factor;
        sum[e] += d[r][e] * v[r][e];
        d[r][e] *= g[e];
      }
      store_numbers(sum, dgamma + i);
    });
    const float offset = mean ? held_sum<kRuns>(n, [&](int r, int e) { return d[r][e]; }) / float(n) : 0;
    const float slope = held_sum<kRuns>(n, [&](int r, int e) { return d[r][e] * v[r][e]; }) / float(n);
    over_runs<kRuns>(n, [&](int r, int i) {
#pragma unroll
      for (int e = 0; e < kHeld; ++e) v[r][e] = factor * (d[r][e] - offset - v[r][e] * slope);
      if (adds) {
        float so_far[kHeld];
        load_numbers(dx + row * n + i, so_far);
#pragma unroll
        for (int e = 0; e < kHeld; ++e) v[r][e] += so_far[e];
      }
      store_numbers(v[r], dx + row * n + i);
    });
  }
  __syncthreads();
  for (int i = int(threadIdx.x); i < n; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < int(kThreads) / 32; ++w) sum += s.dgamma[w][i];
    parts[int64_t(blockIdx.x) * n + i] = sum;
  }
}

constexpr double kMinNorm = 1e-12;

// y = x / max(|x|, 1e-12) * scale
template <class T>
__global__ void l2_forward_kernel(int64_t n_rows, int64_t n, const T* x, const T* scale, T* y) {
  Shared<T>& s = shared<Shared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const T* v = x + row * n;
    const T norm = std::sqrt(row_sum(n, s, [=](int64_t i) { return v[i] * v[i]; }));
    const T r = T(1) / Max{}(norm, T(kMinNorm));
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) y[row * n + i] = v[i] * r * scale[i];
  }
}

// With n = x / |x| and g = dy * scale: dx = (g - n <n, g>) / |x|; the row's part of dscale is dy * n. Below the
// smallest norm, where x is divided by a constant, the term with <n, g> is absent.
template <class T>
__global__ void l2_backward_kernel(int64_t n_rows, int64_t n, const T* dy, const T* x, const T* scale, T* dx,
                                   T* parts) {
  Shared<T>& s = shared<Shared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const T *v = x + row * n, *d = dy + row * n;
    const T norm = std::sqrt(row_sum(n, s, [=](int64_t i) { return v[i] * v[i]; }));
    const T r = T(1) / Max{}(norm, T(kMinNorm));
    const T dot = r * row_sum(n, s, [=](int64_t i) { return d[i] * scale[i] * v[i]; });
    const T along = norm >= T(kMinNorm) ? dot : T(0);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      dx[row * n + i] = r * (d[i] * scale[i] - v[i] * r * along);
      parts[row * n + i] = d[i] * v[i] * r;
    }
  }
}

template <class T>
Launch rows_launch(int64_t n_rows) {
  return {blocks_for(n_rows, 1), kNormThreads, sizeof(Shared<T>), stream()};
}

void norm_forward(const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& mean,
                  const Tensor& rstd) {
  if (x.numel() == 0) return;
  const int64_t n_rows = row_count(x), n = row_width(x);
  dispatch_activation(y.dtype(), [&]<class E>() {
    using T = computed_t<E>;
    const bool held = dispatch_held<E>(n, [&]<int kRuns>() {
      launch({held_blocks(n_rows), kThreads, 0, stream()}, held_norm_forward_kernel<E, kRuns>, n_rows, int(n),
             float(eps), data<float>(x), data<float>(gamma), data<E>(y), data_or_null<float>(mean), data<float>(rstd));
    });
    if (held) return;
    launch(rows_launch<T>(n_rows), norm_forward_kernel<T, E>, n_rows, n, T(eps), data<T>(x), data<T>(gamma), data<E>(y),
           data_or_null<T>(mean), data<T>(rstd));
  });
}

void norm_backward(const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& mean, const Tensor& rstd,
                   const Into& dx, const Into& dgamma) {
  if (x.numel() == 0) return sum_to(Cuda{}, x, dgamma);
  const int64_t n_rows = row_count(x), n = row_width(x);
  dispatch_activation(dy.dtype(), [&]<class E>() {
    using T = computed_t<E>;
    const bool held = dispatch_held<E>(n, [&]<int kRuns>() {
      const unsigned blocks = held_blocks(n_rows, kMostParts);
      const Tensor parts({blocks, n}, DType::f32, Device::cuda);
      launch({blocks, kThreads, sizeof(HeldShared<32 * kRuns * kHeld>), stream()}, held_norm_backward_kernel<E, kRuns>,
             n_rows, int(n), data<E>(dy), data<float>(x), data<float>(gamma), data_or_null<float>(mean),
             data<float>(rstd), dx.adds, data<float>(dx.tensor), data<float>(parts));
      sum_to(Cuda{}, parts, dgamma);
    });
    if (held) return;
    const Tensor parts({n_rows, n}, x.dtype(), Device::cuda);
    launch(rows_launch<T>(n_rows), norm_backward_kernel<T, E>, n_rows, n, data<E>(dy), data<T>(x), data<T>(gamma),
           data_or_null<T>(mean), data<T>(rstd), dx.adds, data<T>(dx.tensor), data<T>(parts));
    sum_to(Cuda{}, parts, dgamma);
  });
}

}  // namespace

void layer_norm_forward(Cuda, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd) {
  norm_forward(x, gamma, eps, y, mean, rstd);
}
void layer_norm_backward(Cuda, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                         const Tensor& rstd, const Into& dx, const Into& dgamma) {
  norm_backward(dy, x, gamma, mean, rstd, dx, dgamma);
}

void rms_norm_forward(Cuda, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& rstd) {
  norm_forward(x, gamma, eps, y, {}, rstd);
}
void rms_norm_backward(Cuda, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& rstd, const Into& dx,
                       const Into& dgamma) {
  norm_backward(dy, x, gamma, {}, rstd, dx, dgamma);
}

void l2_normalize_forward(Cuda, const Tensor& x, const Tensor& scale, const Tensor& y) {
  if (x.numel() == 0) return;
  const int64_t d = scale.numel(), n_rows = x.numel() / d;
  dispatch_float(x.dtype(), [&]<class T>() {
    launch(rows_launch<T>(n_rows), l2_forward_kernel<T>, n_rows, d, data<T>(x), data<T>(scale), data<T>(y));
  });
}

void l2_normalize_backward(Cuda, const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx,
                           const Into& dscale) {
  const int64_t d = scale.numel(), n_rows = x.numel() / d;
  const Tensor parts(Shape{n_rows, d}, x.dtype(), Device::cuda);
  dispatch_float(x.dtype(), [&]<class T>() {
    if (n_rows == 0) return;
    launch(rows_launch<T>(n_rows), l2_backward_kernel<T>, n_rows, d, data<T>(dy), data<T>(x), data<T>(scale),
           data<T>(dx), data<T>(parts));
  });
  sum_to(Cuda{}, parts, dscale);
}

}  // namespace rondo
