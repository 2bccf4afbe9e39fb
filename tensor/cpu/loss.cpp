// Cross entropy of rows of logits against labels.
#include <cmath>

#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/softmax.h"
#include "tensor/kernels.h"

namespace rondo {

using namespace cpu;

void cross_entropy_forward(Cpu, const Tensor& logits, const Tensor& labels, int64_t ignore_index, const Tensor& loss,
                           const Tensor& lse, const Tensor& count) {
  const int64_t n = row_width(logits), n_rows = row_count(logits);
  const int64_t* label = labels.data<int64_t>();
  int64_t& counted = *count.data<int64_t>() = 0;
  for (int64_t i = 0; i < n_rows; ++i) counted += label[i] != ignore_index;
  dispatch_float(logits.dtype(), [&]<class T>() {
    const T* xs = logits.data<T>();
    T* lses = lse.data<T>();
    Scratch scratch;
    T* losses = scratch.get<T>(n_rows);
    parallel_chunks(n_rows, rows_per_tile(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto [top, log_sum] = log_sum_exp(xs + i * n, n);
        lses[i] = top + log_sum;
        losses[i] = label[i] == ignore_index ? T(0) : log_sum - (xs[i * n + label[i]] - top);
      }
    });
    *loss.data<T>() = lane_sum<T>(n_rows, kSelf, losses) / T(counted);
  });
}

// dlogits = (softmax(logits) - onehot(label)) * dloss / count, and 0 in ignored rows.
void cross_entropy_backward(Cpu, const Tensor& dloss, const Tensor& logits, const Tensor& labels, int64_t ignore_index,
                            const Tensor& lse, const Tensor& count, const Tensor& dlogits) {
  const int64_t n = row_width(logits);
  const int64_t* label = labels.data<int64_t>();
  dispatch_float(logits.dtype(), [&]<class T>() {
    const T factor = *dloss.data<T>() / T(*count.data<int64_t>());
    const T *xs = logits.data<T>(), *lses = lse.data<T>();
    T* dxs = dlogits.data<T>();
    parallel_chunks(row_count(logits), rows_per_tile(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T* out = dxs + i * n;
        if (label[i] == ignore_index) {
          flat(out, n).setZero();
          continue;
        }
        const T at = lses[i];
        const auto into_dlogits = [=](const auto& v) -> plain_t<decltype(v)> { return exp_lanes(v - at) * factor; };
        lane_map(n, out, into_dlogits, xs + i * n);
        out[label[i]] -= factor;
      }
    });
  });
}

}  // namespace rondo
