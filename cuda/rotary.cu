// Rotary position embedding of packed heads.
#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

// One pair (x[i], x[i + D/2]) of a head, turned by the angles of its row's position.
template <class T>
struct RotatePair {
  int64_t first, window, n, width, d;
  T direction;
  const T *x, *angles;
  T* y;
  __device__ void operator()(int64_t pair) const {
    const int64_t half = d / 2, head = pair / half, k = pair % half, at = head * d + k, row = at / width;
    const T* position = angles + (first + row % n % window) * d;
    const T a = x[at], b = x[at + half], c = position[k], s = position[half + k] * direction;
    y[at] = a * c - b * s;
    y[at + half] = b * c + a * s;
  }
};

}  // namespace

void rotary(Cuda, const Rotation& how, const Tensor& x, const Tensor& table, const Tensor& y) {
  const int64_t d = table.dim(2);
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* angles = data<T>(table) + how.which * table.dim(1) * d;
    for_each(x.numel() / 2, RotatePair<T>{how.first, how.window, how.n, row_width(x), d, T(how.inverse ? -1 : 1),
                                          data<T>(x), angles, data<T>(y)});
  });
}

}  // namespace rondo
