// Copies of strided views: permutations and broadcasts.
#include "cuda/strided.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class U>
struct CopyStrided {
  Strided place;
  const U* x;
  U* y;
  __device__ void operator()(int64_t i) const { y[i] = x[place(i)]; }
};

}  // namespace

void copy_strided(Cuda, const Tensor& x, const Shape& strides, const Tensor& y) {
  const Strided place(y.shape(), strides);
  // As many elements at a time, up to 16 bytes, as lie side by side.
  int64_t run = 1;
  const int64_t size = int64_t(size_of(y.dtype()));
  while (2 * run * size <= 16 && place.has_runs(2 * run)) run *= 2;
  dispatch_width(size_t(run * size), [&]<class U>(U) {
    for_each(y.numel() / run, CopyStrided<U>{run == 1 ? place : place.of_runs(run), static_cast<const U*>(x.bytes()),
                                             static_cast<U*>(y.bytes())});
  });
}

}  // namespace rondo
