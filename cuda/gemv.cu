// A few rows times the weights, as in decoding: a warp reads a row of W once, where it lies, in whatever type it is
// kept, 16 bytes a lane where rows are whole numbers of them.
#include <bit>
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

// `n` numbers that lie together.
template <class T, int n>
struct Pack {
  T at[n];
};
template <class T>
constexpr int kPer16Bytes = 16 / int(sizeof(T));

// As many loads of 16 bytes as there are, where a pack has that many; p is aligned to them.
template <int n, class T>
__device__ Pack<T, n> load(const T* p) {
  Pack<T, n> pack;
  if constexpr (n == 1) {
    pack.at[0] = *p;
  } else {
    constexpr int part = kPer16Bytes<T>;
#pragma unroll
    for (int i = 0; i < n; i += part) {
      const auto some = std::bit_cast<Pack<T, part>>(reinterpret_cast<const uint4*>(p)[i / part]);
#pragma unroll
      for (int j = 0; j < part; ++j) pack.at[i + j] = some.at[j];
    }
  }
  return pack;
}

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
        const Pack<W, kPack> w = load<kPack>(weight + j * k + i);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if (r >= n_rows) break;
          const Pack<T, kPack> v = load<kPack>(rows + r * k + i);
#pragma unroll
          for (int e = 0; e < kPack; ++e) sums[r] = std::fma(v.at[e], T(w.at[e]), sums[r]);
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
  constexpr int wide = kPer16Bytes<W>;
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
