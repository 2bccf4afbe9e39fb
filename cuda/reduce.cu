// Sums, in f64 and in a fixed order. Columns of rows that lie one after another: a block has some columns of a chunk of
// rows, and what the chunks give is added up in the same way; of a few rows a thread has columns alone. Anything else:
// a block for each result.
#include "cuda/block.cuh"
#include "cuda/pack.cuh"
#include "cuda/strided.cuh"

namespace rondo {
namespace {

using namespace cuda;

struct Shared {
  double scratch[32];
};
template <class E>
__global__ void sum_to_kernel(int64_t n_results, int64_t n, Strided result, Strided summed, const E* x, bool adds,
                              E* y) {
  Shared& s = shared<Shared>();
  for (int64_t o = blockIdx.x; o < n_results; o += gridDim.x) {
    const E* from = x + result(o);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += converted<double>(from[summed(i)]);
    sum = block_reduce(sum, s.scratch, Sum{});
    if (threadIdx.x == 0) y[o] = converted<E>(sum + (adds ? converted<double>(y[o]) : 0));
  }
}

template <class E>
struct SumAlone {
  int64_t n_rows, width;
  const E* x;
  bool adds;
  E* y;
  template <int n>
  __device__ void operator()(int64_t i, Count<n>) const {
    double sum[n] = {};
#pragma unroll 4
    for (int64_t r = 0; r < n_rows; ++r) {
      computed_t<E> v[n];
      load_numbers(x + r * width + i, v);
#pragma unroll
      for (int e = 0; e < n; ++e) sum[e] += double(v[e]);
    }
    computed_t<E> rounded[n] = {};
    if (adds) load_numbers(y + i, rounded);
#pragma unroll
    for (int e = 0; e < n; ++e) rounded[e] = computed_t<E>(sum[e] + double(rounded[e]));
    store_numbers(rounded, y + i);
  }
};

template <int kColumns>
struct ColumnsShared {
  double sums[kThreads / 32][kColumns];
};
// Block (kColumns columns, chunk of rows) -> a row of y [chunks, width]. Warps read 32 / kColumns rows at a time.
template <int kColumns, class From, class To>
__global__ void sum_columns_kernel(int64_t n_rows, int64_t width, int64_t chunk, const From* x, bool adds, To* y) {
  ColumnsShared<kColumns>& s = shared<ColumnsShared<kColumns>>();
  const int thread = int(threadIdx.x), lane = thread % kColumns;
  const int64_t column = int64_t(blockIdx.x) * kColumns + lane, first = blockIdx.y * chunk,
                last = min(first + chunk, n_rows);
  double sum = 0;
  if (column < width)
#pragma unroll 8
    for (int64_t r = first + thread / kColumns; r < last; r += kThreads / kColumns)
      sum += converted<double>(x[r * width + column]);
  for (int i = 16; i >= kColumns; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
  if (thread % 32 < kColumns) s.sums[thread / 32][lane] = sum;
  __syncthreads();
  if (thread >= kColumns || column >= width) return;
  for (int w = 1; w < int(kThreads) / 32; ++w) sum += s.sums[w][lane];
  To& to = y[blockIdx.y * width + column];
  to = converted<To>(sum + (adds ? converted<double>(to) : 0));
}

template <int kColumns, class From, class To>
void sum_columns(int64_t n_rows, int64_t width, int64_t chunk, const From* x, bool adds, To* y) {
  const dim3 grid(unsigned((width + kColumns - 1) / kColumns), unsigned((n_rows + chunk - 1) / chunk));
  launch({grid, kThreads, sizeof(ColumnsShared<kColumns>), cuda::stream()}, sum_columns_kernel<kColumns, From, To>,
         n_rows, width, chunk, x, adds, y);
}
// Few columns a block make blocks enough where rows are not cut into chunks. 32 bytes are the least that memory gives.
constexpr int kNarrow = 8, kWide = 32;
template <class E>
void sum_columns(const Tensor& x, int64_t width, const Into& y) {
  constexpr int64_t kFewRows = 8, kManyColumns = 1 << 16, kOneChunk = 1024, kChunk = 64, kMostChunks = 256;
  const int64_t n_rows = x.numel() / width;
  E* const to = data<E>(y.tensor);
  if (n_rows <= kFewRows || width >= kManyColumns) {
    const SumAlone<E> sum{n_rows, width, data<E>(x), y.adds, to};
    return width % kPerLoad<E> == 0 ? for_each_run<kPerLoad<E>>(width, sum) : for_each_run<1>(width, sum);
  }
  if (n_rows <= kOneChunk) return sum_columns<kNarrow>(n_rows, width, n_rows, data<E>(x), y.adds, to);
  const int64_t chunk = std::max(kChunk, (n_rows + kMostChunks - 1) / kMostChunks);
  const Tensor sums({(n_rows + chunk - 1) / chunk, width}, DType::f64, Device::cuda);
  sum_columns<kWide>(n_rows, width, chunk, data<E>(x), false, data<double>(sums));
  sum_columns<kNarrow>(sums.dim(0), width, sums.dim(0), data<double>(sums), y.adds, to);
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

void sum_to(Cuda, const Tensor& x, const Into& into) {
  const Tensor& y = into.tensor;
  if (y.numel() == 0) return;
  constexpr int64_t kFewColumns = 16;
  if (const int64_t width = columns_of(x, y); width >= kFewColumns && x.numel() > 0)
    return dispatch_activation(x.dtype(), [&]<class E>() { sum_columns<E>(x, width, into); });
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
           Strided(kept, kept_strides), Strided(summed, summed_strides), data<E>(x), into.adds, data<E>(y));
  });
}

}  // namespace rondo
