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
  const auto run = [&]<class U>(U) {
    for_each(y.numel(),
             CopyStrided<U>{Strided(y.shape(), strides), static_cast<const U*>(x.bytes()), static_cast<U*>(y.bytes())});
  };
  switch (size_of(y.dtype())) {
    case 1:
      return run(uint8_t());
    case 2:
      return run(uint16_t());
    case 4:
      return run(uint32_t());
    default:
      return run(uint64_t());
  }
}

}  // namespace rondo
