// Sums, in f64 and in a fixed order. Columns of rows that lie one after another: a block has 32 columns of a chunk of
// rows, and what the chunks give is added up in the same way. Anything else: a block for each result.
#include "cuda/block.cuh"
#include "cuda/strided.cuh"

namespace rondo {
namespace {

using namespace cuda;

struct Shared {
  double scratch[32];
};
template <class E>
__global__ void sum_to_kernel(int64_t n_results, int64_t n, Strided result, Strided summed, const E* x, E* y) {
  Shared& s = shared<Shared>();
  for (int64_t o = blockIdx.x; o < n_results; o += gridDim.x) {
    const E* from = x + result(o);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += converted<double>(from[summed(i)]);
    sum = block_reduce(sum, s.scratch, Sum{});
    if (threadIdx.x == 0) y[o] = converted<E>(sum);
  }
}

struct ColumnsShared {
  double sums[kThreads / 32][32];
};
// Block (columns, chunk of rows) -> a row of y [chunks, width].
template <class From, class To>
__global__ void sum_columns_kernel(int64_t n_rows, int64_t width, int64_t chunk, const From* x, To* y) {
  ColumnsShared& s = shared<ColumnsShared>();
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  const int64_t column = int64_t(blockIdx.x) * 32 + lane, first = blockIdx.y * chunk, last = min(first + chunk, n_rows);
  double sum = 0;
  if (column < width)
#pragma unroll 4
    for (int64_t r = first + warp; r < last; r += kThreads / 32) sum += converted<double>(x[r * width + column]);
  s.sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= width) return;
  for (int w = 1; w < int(kThreads) / 32; ++w) sum += s.sums[w][lane];
  y[blockIdx.y * width + column] = converted<To>(sum);
}

template <class From, class To>
void sum_columns(int64_t n_rows, int64_t width, int64_t chunk, const From* x, To* y) {
  const unsigned chunks = unsigned((n_rows + chunk - 1) / chunk);
  launch({dim3(unsigned((width + 31) / 32), chunks), kThreads, sizeof(ColumnsShared), cuda::stream()},
         sum_columns_kernel<From, To>, n_rows, width, chunk, x, y);
}
template <class E>
void sum_columns(const Tensor& x, int64_t width, const Tensor& y) {
  constexpr int64_t kChunk = 64, kMostChunks = 256;
  const int64_t n_rows = x.numel() / width, chunk = std::max(kChunk, (n_rows + kMostChunks - 1) / kMostChunks);
  if (n_rows <= chunk) return sum_columns(n_rows, width, chunk, data<E>(x), data<E>(y));
  const Tensor sums({(n_rows + chunk - 1) / chunk, width}, DType::f64, Device::cuda);
  sum_columns(n_rows, width, chunk, data<E>(x), data<double>(sums));
  sum_columns(sums.dim(0), width, sums.dim(0), data<double>(sums), data<E>(y));
}

bool keeps(const Tensor& x, const Tensor& y, int i) {  // whether y has dimension i of x
  const int more = x.rank() - y.rank();
  return i >= more && y.dim(i - more) == x.dim(i);
}
// How many numbers at the end of x are columns, if all that is summed lies before them; else 0.
int64_t columns_of(const Tensor& x, const Tensor& y) {
  int64_t width = 1;
  int i = x.rank() - 1;
  for (; i >= 0 && keeps(x, y, i); --i) width *= x.dim(i);
  for (; i >= 0; --i)
    if (keeps(x, y, i) && x.dim(i) != 1) return 0;
  return width;
}

}  // namespace

void sum_to(Cuda, const Tensor& x, const Tensor& y) {
  if (y.numel() == 0) return;
  constexpr int64_t kFewColumns = 16;
  if (const int64_t width = columns_of(x, y); width >= kFewColumns && x.numel() > 0)
    return dispatch_activation(x.dtype(), [&]<class E>() { sum_columns<E>(x, width, y); });
  // x's dimensions apart: those y keeps, in y's order, and those that are summed.
  Shape kept, kept_strides, summed, summed_strides;
  int64_t stride = x.numel();
  for (int i = 0; i < x.rank(); ++i) {
    stride = x.dim(i) ? stride / x.dim(i) : 0;
    (keeps(x, y, i) ? kept : summed).push_back(x.dim(i));
    (keeps(x, y, i) ? kept_strides : summed_strides).push_back(stride);
  }
  dispatch_activation(x.dtype(), [&]<class E>() {
    launch({blocks_for(y.numel(), 1), 128, sizeof(Shared), cuda::stream()}, sum_to_kernel<E>, y.numel(), summed.numel(),
           Strided(kept, kept_strides), Strided(summed, summed_strides), data<E>(x), data<E>(y));
  });
}

}  // namespace rondo
