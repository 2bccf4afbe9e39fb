// Sums: a block for each result, whose threads walk over what it sums in a fixed order, in f64.
#include "cuda/block.cuh"
#include "cuda/strided.cuh"

namespace rondo {
namespace {

using namespace cuda;

struct Shared {
  double scratch[32];
};

template <class T>
__global__ void sum_to_kernel(int64_t n_results, int64_t n, Strided result, Strided summed, const T* x, T* y) {
  Shared& s = shared<Shared>();
  for (int64_t o = blockIdx.x; o < n_results; o += gridDim.x) {
    const T* from = x + result(o);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += double(computed_t<T>(from[summed(i)]));
    sum = block_reduce(sum, s.scratch, Sum{});
    if (threadIdx.x == 0) y[o] = T(computed_t<T>(sum));
  }
}

}  // namespace

void sum_to(Cuda, const Tensor& x, const Tensor& y) {
  if (y.numel() == 0) return;
  // x's dimensions apart: those y keeps, in y's order, and those that are summed.
  Shape kept, kept_strides, summed, summed_strides;
  const int more = x.rank() - y.rank();
  int64_t stride = x.numel();
  for (int i = 0; i < x.rank(); ++i) {
    stride = x.dim(i) ? stride / x.dim(i) : 0;
    const bool keeps = i >= more && y.dim(i - more) == x.dim(i);
    (keeps ? kept : summed).push_back(x.dim(i));
    (keeps ? kept_strides : summed_strides).push_back(stride);
  }
  dispatch_activation(x.dtype(), [&]<class T>() {
    launch({blocks_for(y.numel(), 1), 128, sizeof(Shared), cuda::stream()}, sum_to_kernel<T>, y.numel(), summed.numel(),
           Strided(kept, kept_strides), Strided(summed, summed_strides), data<T>(x), data<T>(y));
  });
}

}  // namespace rondo
