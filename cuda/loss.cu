// Cross entropy of rows of logits against labels: a warp a row where it can hold it, else a block.
#include <limits>

#include "cuda/held_row.cuh"
#include "cuda/softmax.cuh"

namespace rondo {
namespace {

using namespace cuda;

// Nobody looked at the labels: one that is none makes the loss and its row's gradient NaN.
__device__ inline bool outside(int64_t label, int64_t n) { return label < 0 || label >= n; }

// log(sum_j exp(x_j)) - x_label, from the greatest x and the logarithm of the sum of exp(x_j - top).
template <class T>
__device__ T row_loss(const T* x, int64_t n, int64_t label, int64_t ignore_index, T top, T log_sum) {
  if (label == ignore_index) return T(0);
  return outside(label, n) ? std::numeric_limits<T>::quiet_NaN() : log_sum - (x[label] - top);
}

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
    losses[row] = row_loss(x, n, labels[row], ignore_index, e.top, log_sum);
  }
}

template <int kRuns>
__global__ void __launch_bounds__(kThreads)
    held_cross_entropy_kernel(int64_t n_rows, int n, const float* logits, const int64_t* labels, int64_t ignore_index,
                              float* losses, float* lse) {
  for (int64_t row = first_row(); row < n_rows; row += row_step()) {
    const float* x = logits + row * n;
    float v[kRuns][kHeld], top = Max::start<float>();
    over_runs<kRuns>(n, [&](int r, int i) {
      load_numbers(x + i, v[r]);
#pragma unroll
      for (int e = 0; e < kHeld; ++e) top = Max{}(top, v[r][e]);
    });
    top = warp_reduce(top, Max{});
    const float log_sum = std::log(held_sum<kRuns>(n, [&](int r, int e) { return std::exp(v[r][e] - top); }));
    if (threadIdx.x % 32 != 0) continue;
    lse[row] = top + log_sum;
    losses[row] = row_loss(x, n, labels[row], ignore_index, top, log_sum);
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
#pragma unroll 8
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

template <class T, int kN>
struct LogitsGradient {  // of kN logits side by side in a row
  int64_t n, ignore_index;
  const T *dloss, *logits, *lse;
  const int64_t *labels, *count;
  T* dlogits;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * kN, row = i / n, column = i - row * n, label = labels[row];
    const T factor = label == ignore_index ? T(0) : *dloss / T(*count), log_sum = lse[row];
    const bool bad = label != ignore_index && outside(label, n);
    T x[kN];
    load_numbers(logits + i, x);
#pragma unroll
    for (int e = 0; e < kN; ++e) {
      const T g = std::exp(x[e] - log_sum) * factor;
      x[e] = label == ignore_index ? T(0)
             : bad                 ? std::numeric_limits<T>::quiet_NaN()
             : label == column + e ? g - factor
                                   : g;
    }
    store_numbers(x, dlogits + i);
  }
};

}  // namespace

void cross_entropy_forward(Cuda, const Tensor& logits, const Tensor& labels, int64_t ignore_index, const Tensor& loss,
                           const Tensor& lse, const Tensor& count) {
  const int64_t n_rows = row_count(logits);
  const Tensor losses = empty_like(lse);
  dispatch_float(logits.dtype(), [&]<class T>() {
    const bool held = dispatch_held<T>(row_width(logits), [&]<int kRuns>() {
      if (n_rows > 0)
        launch({held_blocks(n_rows), kThreads, 0, stream()}, held_cross_entropy_kernel<kRuns>, n_rows,
               int(row_width(logits)), data<float>(logits), data<int64_t>(labels), ignore_index, data<float>(losses),
               data<float>(lse));
    });
    if (!held && n_rows > 0)
      launch({blocks_for(n_rows, 1), 128, sizeof(RowShared<T>), stream()}, cross_entropy_kernel<T>, n_rows,
             row_width(logits), data<T>(logits), data<int64_t>(labels), ignore_index, data<T>(losses), data<T>(lse));
    launch({1, 1024, sizeof(MeanShared), stream()}, mean_loss_kernel<T>, n_rows, data<T>(losses), data<int64_t>(labels),
           ignore_index, data<T>(loss), data<int64_t>(count));
  });
}

// dlogits = (softmax(logits) - onehot(label)) * dloss / count, and 0 in ignored rows.
void cross_entropy_backward(Cuda, const Tensor& dloss, const Tensor& logits, const Tensor& labels, int64_t ignore_index,
                            const Tensor& lse, const Tensor& count, const Tensor& dlogits) {
  dispatch_float(logits.dtype(), [&]<class T>() {
    dispatch_run<T>(row_width(logits), [&]<int kN>() {
      for_each(logits.numel() / kN,
               LogitsGradient<T, kN>{row_width(logits), ignore_index, data<T>(dloss), data<T>(logits), data<T>(lse),
                                     data<int64_t>(labels), data<int64_t>(count), data<T>(dlogits)});
    });
  });
}

}  // namespace rondo
