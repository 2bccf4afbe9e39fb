// Windows over images, as columns of products, and back.
#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

// One element of the columns.
template <class T>
struct Unfold {
  Windows how;
  const T* x;
  T* columns;
  __device__ void operator()(int64_t i) const {
    const int64_t ox = i % how.out_width, row = i / how.out_width, oy = row % how.out_height;
    const int64_t place = row / how.out_height, kx = place % how.width, ky = place / how.width % how.height;
    const int64_t plane = place / how.width / how.height;
    const int64_t at_y = oy * how.stride + ky - how.padding, at_x = ox * how.stride + kx - how.padding;
    const bool there = at_y >= 0 && at_y < how.in_height && at_x >= 0 && at_x < how.in_width;
    columns[i] = there ? x[(plane * how.in_height + at_y) * how.in_width + at_x] : T(0);
  }
};

// One element of the images: the sum of what it is in all windows, in their order.
template <class T>
struct Fold {
  Windows how;
  const T* columns;
  T* x;
  __device__ void operator()(int64_t i) const {
    const int64_t at_x = i % how.in_width, row = i / how.in_width, at_y = row % how.in_height;
    const int64_t plane = row / how.in_height;
    T sum = 0;
    for (int64_t ky = 0; ky < how.height; ++ky)
      for (int64_t kx = 0; kx < how.width; ++kx) {
        const int64_t steps_y = at_y + how.padding - ky, steps_x = at_x + how.padding - kx;
        const int64_t oy = steps_y / how.stride, ox = steps_x / how.stride;
        const bool seen = steps_y >= 0 && steps_y % how.stride == 0 && oy < how.out_height && steps_x >= 0 &&
                          steps_x % how.stride == 0 && ox < how.out_width;
        if (seen)
          sum += columns[(((plane * how.height + ky) * how.width + kx) * how.out_height + oy) * how.out_width + ox];
      }
    x[i] = sum;
  }
};

}  // namespace

void unfold(Cuda, const Windows& how, const Tensor& x, const Tensor& columns) {
  dispatch_float(x.dtype(), [&]<class T>() {
    for_each(columns.numel(), Unfold<T>{how, data<T>(x), data<T>(columns)});
  });
}

void fold(Cuda, const Windows& how, const Tensor& columns, const Tensor& x) {
  dispatch_float(x.dtype(), [&]<class T>() { for_each(x.numel(), Fold<T>{how, data<T>(columns), data<T>(x)}); });
}

}  // namespace rondo
