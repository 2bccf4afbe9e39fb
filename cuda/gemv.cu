// A few rows times the weights, as in decoding: a warp reads a row of W once, where it lies, in whatever type it is
// kept, 16 bytes a lane where rows are whole numbers of them.
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

// y [m, n] for kRows rows of x at a time; kPack numbers of W at a time. The order of a sum depends on k and kPack
// alone, and multiply-adds are named as such, since a compiler makes them in one place and not in the next.
template <int kRows, int kPack, class T, class W>
__global__ void gemv_kernel(int64_t m, int64_t n, int64_t k, const T* x, const W* weight, const T* scale,
                            bool accumulate, T* y) {
  const int lane = int(threadIdx.x % 32);
  const int64_t warps = int64_t(gridDim.x) * (blockDim.x / 32);
  for (int64_t j = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32; j < n; j += warps)
    for (int64_t first = 0; first < m; first += kRows) {
      const T* rows = x + first * k;
      const int n_rows = int(min(m - first, int64_t{kRows}));
      T sums[kRows] = {};
#pragma unroll 4
      for (int64_t i = lane * kPack; i < k; i += 32 * kPack) {
        computed_t<W> w[kPack];
        load_numbers(weight + j * k + i, w);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if (r >= n_rows) break;
          T v[kPack];
          load_numbers(rows + r * k + i, v);
#pragma unroll
          for (int e = 0; e < kPack; ++e) sums[r] = std::fma(v[e], T(w[e]), sums[r]);
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= n_rows) break;
        const T sum = warp_reduce(sums[r], Sum{}) * (scale ? scale[j] : T(1));
        T& out = y[(first + r) * n + j];
        if (lane == 0) out = accumulate ? out + sum : sum;
      }
    }
}

template <class T, class W>
void product(const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  if (y.numel() == 0) return;
  const int64_t n = weight.dim(0), k = weight.dim(1), m = y.numel() / n;
  const auto run = [&](auto* kernel) {
    launch({blocks_for(n, kThreads / 32), kThreads, 0, stream()}, kernel, m, n, k, data<T>(x), data<W>(weight),
           data_or_null<T>(scale), accumulate, data<T>(y));
  };
  constexpr int wide = kPerLoad<W>;
  if (k % wide == 0) return run(m == 1 ? gemv_kernel<1, wide, T, W> : gemv_kernel<8, wide, T, W>);
  run(m == 1 ? gemv_kernel<1, 1, T, W> : gemv_kernel<8, 1, T, W>);
}

}  // namespace

void gemv(Cuda, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  if (weight.dtype() == DType::bf16) return product<float, bf16>(x, weight, scale, accumulate, y);
  if (weight.dtype() == DType::i8) return product<float, int8_t>(x, weight, scale, accumulate, y);
  dispatch_float(y.dtype(), [&]<class T>() { product<T, T>(x, weight, scale, accumulate, y); });
}

}  // namespace rondo
