// Cross entropy of rows of logits against labels, a block a row.
#include <limits>

#include "cuda/softmax.cuh"

namespace rondo {
namespace {

using namespace cuda;

// Nobody looked at the labels: one that is none makes the loss and its row's gradient NaN.
__device__ inline bool outside(int64_t label, int64_t n) { return label < 0 || label >= n; }

template <class T>
__global__ void cross_entropy_kernel(int64_t n_rows, int64_t n, const T* logits, const int64_t* labels,
                                     int64_t ignore_index, T* losses, T* lse) {
  RowShared<T>& s = shared<RowShared<T>>();
  for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
    const T* x = logits + row * n;
    const SumOfExponentials<T> e = sum_of_exponentials(x, n, s.scratch);
    if (threadIdx.x != 0) continue;
    const T log_sum = std::log(e.sum);
    lse[row] = e.top + log_sum;
    const int64_t label = labels[row];
    losses[row] = label == ignore_index ? T(0)
                  : outside(label, n)   ? std::numeric_limits<T>::quiet_NaN()
                                        : log_sum - (x[label] - e.top);
  }
}

struct MeanShared {
  double scratch[32];
};

// One block: the mean of the losses that count, and their number.
template <class T>
__global__ void mean_loss_kernel(int64_t n_rows, const T* losses, const int64_t* labels, int64_t ignore_index, T* loss,
                                 int64_t* count) {
  MeanShared& s = shared<MeanShared>();
  double sum = 0, counted = 0;
  for (int64_t i = threadIdx.x; i < n_rows; i += blockDim.x) {
    sum += double(losses[i]);
    counted += labels[i] != ignore_index;
  }
  sum = block_reduce(sum, s.scratch, Sum{});
  counted = block_reduce(counted, s.scratch, Sum{});
  if (threadIdx.x != 0) return;
  *loss = T(sum / counted);
  *count = int64_t(counted);
}

template <class T>
struct LogitsGradient {
  int64_t n, ignore_index;
  const T *dloss, *logits, *lse;
  const int64_t *labels, *count;
  T* dlogits;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / n, label = labels[row];
    const T factor = *dloss / T(*count);
    const T g = std::exp(logits[i] - lse[row]) * factor;
    dlogits[i] = label == ignore_index ? T(0)
                 : outside(label, n)   ? std::numeric_limits<T>::quiet_NaN()
                 : label == i % n      ? g - factor
                                       : g;
  }
};

}  // namespace

void cross_entropy_forward(Cuda, const Tensor& logits, const Tensor& labels, int64_t ignore_index, const Tensor& loss,
                           const Tensor& lse, const Tensor& count) {
  const int64_t n_rows = row_count(logits);
  const Tensor losses = empty_like(lse);
  dispatch_float(logits.dtype(), [&]<class T>() {
    if (n_rows > 0)
      launch({blocks_for(n_rows, 1), 128, sizeof(RowShared<T>), stream()}, cross_entropy_kernel<T>, n_rows,
             row_width(logits), data<T>(logits), data<int64_t>(labels), ignore_index, data<T>(losses), data<T>(lse));
    launch({1, kThreads, sizeof(MeanShared), stream()}, mean_loss_kernel<T>, n_rows, data<T>(losses),
           data<int64_t>(labels), ignore_index, data<T>(loss), data<int64_t>(count));
  });
}

// dlogits = (softmax(logits) - onehot(label)) * dloss / count, and 0 in ignored rows.
void cross_entropy_backward(Cuda, const Tensor& dloss, const Tensor& logits, const Tensor& labels, int64_t ignore_index,
                            const Tensor& lse, const Tensor& count, const Tensor& dlogits) {
  dispatch_float(logits.dtype(), [&]<class T>() {
    for_each(logits.numel(),
             LogitsGradient<T>{row_width(logits), ignore_index, data<T>(dloss), data<T>(logits), data<T>(lse),
                               data<int64_t>(labels), data<int64_t>(count), data<T>(dlogits)});
  });
}

}  // namespace rondo
