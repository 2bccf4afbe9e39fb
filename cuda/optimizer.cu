// Clipping, Adam and SGD, over lists of tensors.
#include <limits>

#include "cuda/block.cuh"
#include "cuda/list.cuh"
#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

struct Shared {
  double scratch[32];
};

template <class T>
struct Gradient {
  const T* x;
  int64_t numel, first;  // its elements, and its first chunk
};
template <class T>
struct Slot {
  T* w;
  const T* grad;
  T *m, *v;
  int64_t numel, first, index;
  double weight_decay;
};

// The numbers begin..end-1 by a block: f(Count<n>, places) where each of kRuns places has n numbers, 16 bytes, so that
// many loads are on their way at once; then what is left, by less. `begin` is a multiple of 16 bytes.
template <class T, int kRuns, class F>
__device__ void over_chunk(int64_t begin, int64_t end, const F& f) {
  constexpr int n = kPerLoad<T>, kStep = int(kThreads) * n;
  int64_t i = begin + int(threadIdx.x) * n;
  for (; i + (kRuns - 1) * kStep + n <= end; i += kRuns * kStep) {
    int64_t at[kRuns];
#pragma unroll
    for (int r = 0; r < kRuns; ++r) at[r] = i + r * kStep;
    f(Count<n>(), at);
  }
  for (; i + n <= end; i += kStep) f(Count<n>(), {i});
  for (; i < end; ++i) f(Count<1>(), {i});
}

// In f64, so that squares of large f32 do not overflow.
template <class T>
__global__ void sum_of_squares_kernel(List<Gradient<T>> list, double* sums) {
  Shared& s = shared<Shared>();
  const Gradient<T> g = list.items[tensor_of(list, blockIdx.x)];
  const int64_t begin = (blockIdx.x - g.first) * kChunk, end = min(begin + kChunk, g.numel);
  double sum = 0;
  over_chunk<T, 4>(begin, end, [&]<int n, int kRuns>(Count<n>, const int64_t(&at)[kRuns]) {
    T x[kRuns][n];
#pragma unroll
    for (int r = 0; r < kRuns; ++r) load_numbers(g.x + at[r], x[r]);
#pragma unroll
    for (int r = 0; r < kRuns; ++r)
#pragma unroll
      for (int e = 0; e < n; ++e) sum += double(x[r][e]) * double(x[r][e]);
  });
  sum = block_reduce(sum, s.scratch, Sum{});
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One block.
template <class T>
__global__ void clip_factor_kernel(int64_t n, const double* sums, double max_norm, T* norm, T* factor) {
  Shared& s = shared<Shared>();
  double sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += sums[i];
  const double length = std::sqrt(block_reduce(sum, s.scratch, Sum{}));
  if (threadIdx.x != 0) return;
  *norm = T(length);
  const bool finite = *norm - *norm == T(0);
  *factor = finite ? T(min(1.0, max_norm / (length + 1e-6))) : std::numeric_limits<T>::quiet_NaN();
}

// What all elements of a tensor need in this step, for w = keep w - size m / (root sqrt(v) + eps).
struct StepNumbers {
  double keep, size, root;
};

// x^n for a whole n >= 0, within about n ulp: a few multiplications where std::pow takes hundreds of instructions.
__device__ inline double power(double x, int64_t n) {
  double y = 1;
  for (; n > 0; n /= 2, x *= x)
    if (n % 2 != 0) y *= x;
  return y;
}

// A thread a tensor: counts its step up.
template <class T>
__global__ void count_step_kernel(List<Slot<T>> list, AdamOptions how, const T* learning_rate, const T* factor,
                                  int64_t* steps, StepNumbers* numbers) {
  const int i = int(threadIdx.x);
  if (i >= list.n || *factor != *factor) return;
  const int64_t t = ++steps[list.items[i].index];
  const double rate = double(*learning_rate);
  numbers[i] = {1 - rate * list.items[i].weight_decay, rate / (1 - power(how.beta1, t)),
                1 / std::sqrt(1 - power(how.beta2, t))};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    adam_kernel(List<Slot<T>> list, AdamOptions how, const T* factor, const StepNumbers* numbers) {
  const T scale = *factor;
  if (scale != scale) return;
  const int tensor = tensor_of(list, blockIdx.x);
  const Slot<T> s = list.items[tensor];
  const T mix1 = T(1 - how.beta1), beta2 = T(how.beta2), mix2 = T(1 - how.beta2), eps = T(how.eps);
  const T keep = T(numbers[tensor].keep), size = T(numbers[tensor].size), root = T(numbers[tensor].root);
  const int64_t begin = (blockIdx.x - s.first) * kChunk, end = min(begin + kChunk, s.numel);
  over_chunk<T, 2>(begin, end, [&]<int n, int kRuns>(Count<n>, const int64_t(&at)[kRuns]) {
    T w[kRuns][n], grad[kRuns][n], m[kRuns][n], v[kRuns][n];
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
      load_numbers(s.grad + at[r], grad[r]);
      load_numbers(s.m + at[r], m[r]);
      load_numbers(s.v + at[r], v[r]);
      load_numbers(s.w + at[r], w[r]);
    }
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
#pragma unroll
      for (int e = 0; e < n; ++e) {
        const T g = scale * grad[r][e];
        m[r][e] += mix1 * (g - m[r][e]);
        v[r][e] = beta2 * v[r][e] + mix2 * g * g;
        w[r][e] = keep * w[r][e] - size * m[r][e] / (std::sqrt(v[r][e]) * root + eps);
      }
      store_numbers(m[r], s.m + at[r]);
      store_numbers(v[r], s.v + at[r]);
      store_numbers(w[r], s.w + at[r]);
    }
  });
}

template <class T>
struct Moved {
  T* w;
  const T* grad;
  T* v;  // null where there is no momentum
  int64_t numel, first;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    sgd_kernel(List<Moved<T>> list, SGDOptions how, const T* learning_rate, const T* factor) {
  const T scale = *factor, rate = *learning_rate, decay = T(how.weight_decay), momentum = T(how.momentum);
  if (scale != scale) return;
  const Moved<T> s = list.items[tensor_of(list, blockIdx.x)];
  const int64_t begin = (blockIdx.x - s.first) * kChunk, end = min(begin + kChunk, s.numel);
  over_chunk<T, 2>(begin, end, [&]<int n, int kRuns>(Count<n>, const int64_t(&at)[kRuns]) {
    T w[kRuns][n], grad[kRuns][n], v[kRuns][n] = {};
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
      load_numbers(s.grad + at[r], grad[r]);
      if (s.v) load_numbers(s.v + at[r], v[r]);
      load_numbers(s.w + at[r], w[r]);
    }
#pragma unroll
    for (int r = 0; r < kRuns; ++r) {
#pragma unroll
      for (int e = 0; e < n; ++e) {
        const T g = scale * grad[r][e] + decay * w[r][e];
        v[r][e] = momentum * v[r][e] + g;
        w[r][e] -= rate * (how.nesterov ? g + momentum * v[r][e] : v[r][e]);
      }
      if (s.v) store_numbers(v[r], s.v + at[r]);
      store_numbers(w[r], s.w + at[r]);
    }
  });
}

int64_t chunks_of(std::span<const Tensor> tensors) {
  int64_t chunks = 0;
  for (const Tensor& t : tensors) chunks += (t.numel() + kChunk - 1) / kChunk;
  return chunks;
}

}  // namespace

void clip_factor(Cuda, std::span<const Tensor> grads, double max_norm, const Tensor& norm, const Tensor& factor) {
  const Tensor sums({chunks_of(grads)}, DType::f64, Device::cuda);
  dispatch_float(norm.dtype(), [&]<class T>() {
    double* next = data<double>(sums);
    const auto item = [&](size_t i) { return Gradient<T>{data<T>(grads[i]), grads[i].numel(), 0}; };
    in_lists<Gradient<T>>(int64_t(grads.size()), item, [&](const List<Gradient<T>>& list, int64_t chunks) {
      if (chunks == 0) return;
      launch({unsigned(chunks), kThreads, sizeof(Shared), stream()}, sum_of_squares_kernel<T>, list, next);
      next += chunks;
    });
    launch({1, 1024, sizeof(Shared), stream()}, clip_factor_kernel<T>, sums.numel(), data<double>(sums), max_norm,
           data<T>(norm), data<T>(factor));
  });
}

void adam_step(Cuda, std::span<const AdamSlot> slots, const AdamOptions& how, const Tensor& learning_rate,
               const Tensor& factor, const Tensor& steps) {
  dispatch_float(factor.dtype(), [&]<class T>() {
    const auto item = [&](size_t i) {
      const AdamSlot& s = slots[i];
      return Slot<T>{data<T>(s.weight), data<T>(s.grad), data<T>(s.m), data<T>(s.v), s.weight.numel(), 0,
                     s.index,           s.weight_decay};
    };
    in_lists<Slot<T>>(int64_t(slots.size()), item, [&](const List<Slot<T>>& list, int64_t chunks) {
      const Tensor memory({list.n, 3}, DType::f64, Device::cuda);
      auto* numbers = reinterpret_cast<StepNumbers*>(data<double>(memory));
      static_assert(List<Slot<T>>::kMost <= 64);
      launch({1, 64, 0, stream()}, count_step_kernel<T>, list, how, data<T>(learning_rate), data<T>(factor),
             data<int64_t>(steps), numbers);
      if (chunks > 0)
        launch({unsigned(chunks), kThreads, 0, stream()}, adam_kernel<T>, list, how, data<T>(factor),
               static_cast<const StepNumbers*>(numbers));
    });
  });
}

void sgd_step(Cuda, std::span<const SGDSlot> slots, const SGDOptions& how, const Tensor& learning_rate,
              const Tensor& factor) {
  dispatch_float(factor.dtype(), [&]<class T>() {
    const auto item = [&](size_t i) {
      const SGDSlot& s = slots[i];
      return Moved<T>{data<T>(s.weight), data<T>(s.grad), data_or_null<T>(s.v), s.weight.numel(), 0};
    };
    in_lists<Moved<T>>(int64_t(slots.size()), item, [&](const List<Moved<T>>& list, int64_t chunks) {
      if (chunks > 0)
        launch({unsigned(chunks), kThreads, 0, stream()}, sgd_kernel<T>, list, how, data<T>(learning_rate),
               data<T>(factor));
    });
  });
}

}  // namespace rondo
