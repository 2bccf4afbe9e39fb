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

// Where a row of the table stands among the tokens: kThreads of them at a time.
struct Shared {
  int counts[kThreads / 32];  // what each warp found
  int64_t places[kThreads];
};
// A block for each row of the table. It looks through the tokens for its row and adds up what it finds in their order,
// a thread kColumns columns: the same bits in every run.
template <class T, int kColumns>
__global__ void embedding_backward_kernel(int64_t n_tokens, int64_t d, const T* dy, const int64_t* tokens, T* dweight) {
  Shared& s = shared<Shared>();
  const int64_t row = blockIdx.x, first = (int64_t(blockIdx.y) * kThreads + threadIdx.x) * kColumns;
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  T sum[kColumns] = {};
  for (int64_t i = 0; i < n_tokens; i += kThreads) {
    const int64_t at = i + threadIdx.x;
    const bool here = at < n_tokens && tokens[at] == row;
    const unsigned found = __ballot_sync(~0u, here);
    if (lane == 0) s.counts[warp] = __popc(found);
    __syncthreads();  // also: the places of the last round were read
    int before = 0, all = 0;
#pragma unroll
    for (int w = 0; w < int(kThreads) / 32; ++w) before += w < warp ? s.counts[w] : 0, all += s.counts[w];
    if (here) s.places[before + __popc(found & ((1u << lane) - 1))] = at;
    __syncthreads();
    if (first < d)
      for (int k = 0; k < all; ++k) {
        T v[kColumns];
        load_numbers(dy + s.places[k] * d + first, v);
#pragma unroll
        for (int e = 0; e < kColumns; ++e) sum[e] += v[e];
      }
  }
  if (first < d) store_numbers(sum, dweight + row * d + first);
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
    dispatch_run<T>(d, [&]<int kColumns>() {
      constexpr int64_t columns = int64_t{kThreads} * kColumns;
      const dim3 grid(unsigned(n_rows), unsigned((d + columns - 1) / columns));
      launch({grid, kThreads, sizeof(Shared), stream()}, embedding_backward_kernel<T, kColumns>, tokens.numel(), d,
             data<T>(dy), data<int64_t>(tokens), data<T>(dweight));
    });
  });
}

}  // namespace rondo
