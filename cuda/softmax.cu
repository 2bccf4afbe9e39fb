// Softmax over rows, a block a row: the maximum is taken off before the exponentials.
#include "cuda/softmax.cuh"

namespace rondo {
namespace {

using namespace cuda;

enum class Form { plain, log };

template <Form form, class T>
__global__ void softmax_forward_kernel(int64_t n_rows, int64_t n, const T* x, T* y) {
  RowShared<T>& s = shared<RowShared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const T* from = x + row * n;
    const SumOfExponentials<T> e = sum_of_exponentials(from, n, s.scratch);
    const T factor = T(1) / e.sum, log_sum = std::log(e.sum);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      // The two largest numbers go first, and the small one keeps its digits.
      y[row * n + i] = form == Form::plain ? std::exp(from[i] - e.top) * factor : (from[i] - e.top) - log_sum;
  }
}

// plain: dx = y (dy - <dy, y>); log: dx = dy - exp(y) sum(dy)
template <Form form, class T>
__global__ void softmax_backward_kernel(int64_t n_rows, int64_t n, const T* dy, const T* y, T* dx) {
  RowShared<T>& s = shared<RowShared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const int64_t at = row * n;
    T sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      sum += form == Form::plain ? dy[at + i] * y[at + i] : dy[at + i];
    sum = block_reduce(sum, s.scratch, Sum{});
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      dx[at + i] = form == Form::plain ? y[at + i] * (dy[at + i] - sum) : dy[at + i] - std::exp(y[at + i]) * sum;
  }
}

template <Form form>
void forward(const Tensor& x, const Tensor& y) {
  if (x.numel() == 0) return;
  dispatch_float(x.dtype(), [&]<class T>() {
    launch({blocks_for(row_count(x), 1), 128, sizeof(RowShared<T>), stream()}, softmax_forward_kernel<form, T>,
           row_count(x), row_width(x), data<T>(x), data<T>(y));
  });
}
template <Form form>
void backward(const Tensor& dy, const Tensor& y, const Tensor& dx) {
  if (y.numel() == 0) return;
  dispatch_float(y.dtype(), [&]<class T>() {
    launch({blocks_for(row_count(y), 1), 128, sizeof(RowShared<T>), stream()}, softmax_backward_kernel<form, T>,
           row_count(y), row_width(y), data<T>(dy), data<T>(y), data<T>(dx));
  });
}

}  // namespace

void softmax_forward(Cuda, const Tensor& x, const Tensor& y) { forward<Form::plain>(x, y); }
void softmax_backward(Cuda, const Tensor& dy, const Tensor& y, const Tensor& dx) { backward<Form::plain>(dy, y, dx); }
void log_softmax_forward(Cuda, const Tensor& x, const Tensor& y) { forward<Form::log>(x, y); }
void log_softmax_backward(Cuda, const Tensor& dy, const Tensor& y, const Tensor& dx) { backward<Form::log>(dy, y, dx); }

}  // namespace rondo
