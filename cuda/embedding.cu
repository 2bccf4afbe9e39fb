// Rows of a table by index, and their sums on the way back.
#include <limits>

#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

// Nobody looked at the tokens: what is none has a row of NaN, and no gradient.
template <class T, int kN>
struct Gather {
  int64_t n_rows, d;
  const T* weight;
  const int64_t* tokens;
  T* y;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * kN, row = i / d, t = tokens[row];
    T v[kN];
    if (t >= 0 && t < n_rows)
      load_numbers(weight + (t - row) * d + i, v);
    else
      for (T& x : v) x = std::numeric_limits<T>::quiet_NaN();
    store_numbers(v, y + i);
  }
};

// Each warp looks through kAtOnce tokens at a time, and writes down where its row of the table stands.
constexpr int kWarps = int(kThreads) / 32, kLooks = 8, kAtOnce = 32 * kLooks;
template <class T, int kColumns>
struct Shared {
  int places[kWarps][kAtOnce];
  T sums[kWarps][32 * kColumns];
};
// Block (row of the table, columns): kColumns columns a thread. Each warp adds up in their order the rows of dy that it
// finds, then the block its warps: the same bits in every run.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(int64_t n_tokens, int64_t d, const T* dy, const int64_t* tokens, T* dweight) {
  auto& s = shared<Shared<T, kColumns>>();
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  const int64_t row = blockIdx.x, column = (int64_t(blockIdx.y) * 32 + lane) * kColumns;
  int* const places = s.places[warp];
  T sum[kColumns] = {};
  for (int64_t from = warp * kAtOnce; from < n_tokens; from += kWarps * kAtOnce) {
    bool here[kLooks];
#pragma unroll
    for (int k = 0; k < kLooks; ++k) {
      const int64_t i = from + k * 32 + lane;
      here[k] = i < n_tokens && tokens[i] == row;
    }
    int found = 0;
#pragma unroll
    for (int k = 0; k < kLooks; ++k) {
      const unsigned all = __ballot_sync(~0u, here[k]);
      if (here[k]) places[found + __popc(all & ((1u << lane) - 1))] = k * 32 + lane;
      found += __popc(all);
    }
    __syncwarp();
    if (column < d)
#pragma unroll 4
      for (int k = 0; k < found; ++k) {
        T v[kColumns];
        load_numbers(dy + (from + places[k]) * d + column, v);
#pragma unroll
        for (int e = 0; e < kColumns; ++e) sum[e] += v[e];
      }
    __syncwarp();
  }
  store_numbers(sum, &s.sums[warp][lane * kColumns]);
  __syncthreads();
  for (int i = int(threadIdx.x); i < 32 * kColumns; i += int(kThreads)) {
    const int64_t at = int64_t(blockIdx.y) * 32 * kColumns + i;
    T total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += s.sums[w][i];
    if (at < d) dweight[row * d + at] = total;
  }
}

}  // namespace

void embedding_forward(Cuda, const Tensor& weight, const Tensor& tokens, const Tensor& y) {
  dispatch_float(weight.dtype(), [&]<class T>() {
    const int64_t d = row_width(weight);
    dispatch_run<T>(d, [&]<int kN>() {
      for_each(y.numel() / kN, Gather<T, kN>{weight.dim(0), d, data<T>(weight), data<int64_t>(tokens), data<T>(y)});
    });
  });
}

void embedding_backward(Cuda, const Tensor& dy, const Tensor& tokens, const Tensor& dweight) {
  if (dweight.numel() == 0) return;
  const int64_t d = row_width(dweight), n_rows = row_count(dweight);
  dispatch_float(dy.dtype(), [&]<class T>() {
    const auto run = [&]<int kColumns>(Count<kColumns>) {
      constexpr int64_t columns = 32 * kColumns;
      const dim3 grid(unsigned(n_rows), unsigned((d + columns - 1) / columns));
      launch({grid, kThreads, sizeof(Shared<T, kColumns>), stream()}, embedding_backward_kernel<T, kColumns>,
             tokens.numel(), d, data<T>(dy), data<int64_t>(tokens), data<T>(dweight));
    };
    // Two loads: every block looks through all tokens, so that fewer blocks do.
    constexpr int kColumns = 2 * kPerLoad<T>;
    d % kColumns == 0 ? run(Count<kColumns>()) : run(Count<1>());
  });
}

}  // namespace rondo
