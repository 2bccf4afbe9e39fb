// Raw memory and copies; filling, converting, and the updates in place that the tape and the optimizers need.
#include <cmath>

#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

// A graph would copy from or to the same place on the host at every replay, whatever is there by then.
void check_not_captured() {
  cudaStreamCaptureStatus status;
  checked(cudaStreamIsCapturing(stream(), &status), "cudaStreamIsCapturing");
  check(status == cudaStreamCaptureStatusNone, "Graph: a copy from or to the host's memory cannot be captured");
}

template <class T>
struct Fill {
  double value;
  T* y;
  __device__ void operator()(int64_t i) const { y[i] = converted<T>(value); }
};
template <class To, class From>
struct RoundOrWiden {  // f32 to bf16, or back
  const From* x;
  To* y;
  template <int n>
  __device__ void operator()(int64_t i, Count<n>) const {
    float v[n];
    load_numbers(x + i, v);
    store_numbers(v, y + i);
  }
};
// To a dtype that the kernel alone is told: a kernel for every pair of dtypes would be much code for little use.
template <class From>
struct Convert {
  const From* x;
  void* y;
  DType dtype;
  __device__ void operator()(int64_t i) const {
    dispatch_any(dtype, [&]<class To>() { static_cast<To*>(y)[i] = converted<To>(x[i]); });
  }
};
template <class E>
struct AddInto {
  const E* x;
  E* y;
  template <int n>
  __device__ void operator()(int64_t i, Count<n>) const {
    computed_t<E> a[n], b[n];
    load_numbers(x + i, a);
    load_numbers(y + i, b);
#pragma unroll
    for (int e = 0; e < n; ++e) b[e] += a[e];
    store_numbers(b, y + i);
  }
};
template <class T>
struct ScaleInto {
  T factor;
  T* y;
  template <int n>
  __device__ void operator()(int64_t i, Count<n>) const {
    T v[n];
    load_numbers(y + i, v);
#pragma unroll
    for (int e = 0; e < n; ++e) v[e] *= factor;
    store_numbers(v, y + i);
  }
};
template <class T>
struct FindNonFinite {
  const T* x;
  unsigned long long* first;
  __device__ void operator()(int64_t i) const {
    const double v = converted<double>(x[i]);
    if (!(v - v == 0)) atomicMin(first, (unsigned long long)(i));  // integers: the order does not matter
  }
};
template <class E, int n>
struct AddRows {  // n numbers at a time
  const E* x;
  int64_t x_stride;
  E* y;
  int64_t y_stride, width;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * n, row = i / width, at = i - row * width;
    E* const to = y + row * y_stride + at;
    computed_t<E> a[n], b[n];
    load_numbers(x + row * x_stride + at, a);
    load_numbers(to, b);
#pragma unroll
    for (int e = 0; e < n; ++e) b[e] += a[e];
    store_numbers(b, to);
  }
};
// What only moves needs no dtype, just its width.
template <class U>
struct MoveRows {
  const U* x;
  int64_t x_stride;
  U* y;
  int64_t y_stride, width;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / width, at = i - row * width;
    y[row * y_stride + at] = x[row * x_stride + at];
  }
};

}  // namespace

void* request_memory(Cuda, size_t bytes) {
  stream();  // opens the device
  void* p = nullptr;
  const cudaError_t status = cudaMalloc(&p, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is reported by the allocator, and must not be seen again by the next call
    return nullptr;
  }
  checked(status, "cudaMalloc");
  return p;
}
// Called by destructors, and says nothing: after a fault of the GPU every call fails, and the first one told so.
void return_memory(Cuda, void* memory) {
  if (cudaFree(memory) != cudaSuccess) cudaGetLastError();
}
size_t free_memory(Cuda) {
  size_t free = 0, total = 0;
  stream();  // the GPU that was chosen
  checked(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}
void fill_bytes(Cuda, int byte, void* memory, size_t bytes) {
  checked(cudaMemsetAsync(memory, byte, bytes, stream()), "cudaMemsetAsync");
}
void copy_to_host(Cuda, const void* from, void* to, size_t bytes) {
  check_not_captured();
  checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "cudaMemcpyAsync");
  checked(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}
void copy_from_host(Cuda, const void* from, void* to, size_t bytes) {
  check_not_captured();
  // Pageable memory, as tensors on the CPU have, is in the driver's hands when this returns; the copy need not be made.
  checked(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "cudaMemcpyAsync");
  if (reads_host_memory()) checked(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

void fill(Cuda, double value, const Tensor& y) {
  if (value == 0 && !std::signbit(value) && y.numel() > 0) return fill_bytes(Cuda{}, 0, y.bytes(), y.n_bytes());
  dispatch_any(y.dtype(), [&]<class T>() { for_each(y.numel(), Fill<T>{value, data<T>(y)}); });
}

void copy(Cuda, const Tensor& x, const Tensor& y) {
  if (x.dtype() == y.dtype()) {
    if (x.numel() == 0) return;
    return checked(cudaMemcpyAsync(y.bytes(), x.bytes(), x.n_bytes(), cudaMemcpyDeviceToDevice, stream()),
                   "cudaMemcpyAsync");
  }
  const int64_t n = x.numel();
  if (x.dtype() == DType::f32 && y.dtype() == DType::bf16)
    return for_each_run<8>(n, RoundOrWiden<bf16, float>{data<float>(x), data<bf16>(y)});
  if (x.dtype() == DType::bf16 && y.dtype() == DType::f32)
    return for_each_run<8>(n, RoundOrWiden<float, bf16>{data<bf16>(x), data<float>(y)});
  dispatch_any(x.dtype(), [&]<class From>() { for_each(n, Convert<From>{data<From>(x), y.bytes(), y.dtype()}); });
}

void add_into(Cuda, const Tensor& x, const Tensor& y) {
  dispatch_activation(y.dtype(), [&]<class E>() {
    for_each_run<kPerLoad<E>>(y.numel(), AddInto<E>{data<E>(x), data<E>(y)});
  });
}

void scale_into(Cuda, double factor, const Tensor& y) {
  dispatch_float(y.dtype(), [&]<class T>() {
    for_each_run<kPerLoad<T>>(y.numel(), ScaleInto<T>{T(factor), data<T>(y)});
  });
}

int64_t first_non_finite(Cuda, const Tensor& x) {
  if (!is_float(x.dtype()) || x.numel() == 0) return -1;
  const Tensor first = full({}, double(int64_t{1} << 62), DType::i64, Device::cuda);
  auto* at = reinterpret_cast<unsigned long long*>(data<int64_t>(first));
  dispatch_activation(x.dtype(), [&]<class T>() { for_each(x.numel(), FindNonFinite<T>{data<T>(x), at}); });
  const int64_t found = to(first, Device::cpu).data<int64_t>()[0];
  return found < x.numel() ? found : -1;
}

void copy_rows(Cuda, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width) {
  if (n_rows * width == 0) return;  // empty tensors have no address to count from
  const size_t size = size_of(x.dtype());
  const int64_t strides = n_rows > 1 ? from.stride | to.stride : 0;
  dispatch_width(size * size_t(width | from.offset | to.offset | strides), [&]<class U>(U) {
    const int64_t run = int64_t(sizeof(U) / size);  // elements that move as one
    for_each(n_rows * width / run,
             MoveRows<U>{static_cast<const U*>(x.bytes()) + from.offset / run, from.stride / run,
                         static_cast<U*>(y.bytes()) + to.offset / run, to.stride / run, width / run});
  });
}

void add_rows(Cuda, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width) {
  if (n_rows * width == 0) return;
  const int64_t strides = n_rows > 1 ? from.stride | to.stride : 0;
  dispatch_activation(y.dtype(), [&]<class E>() {
    dispatch_run<E>(width | from.offset | to.offset | strides, [&]<int n>() {
      for_each(n_rows * width / n,
               AddRows<E, n>{data<E>(x) + from.offset, from.stride, data<E>(y) + to.offset, to.stride, width});
    });
  });
}

}  // namespace rondo
