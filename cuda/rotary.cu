// Rotary position embedding of packed heads.
#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

// kN pairs (x[i], x[i + D/2]) of a head, turned by the angles of its row's position.
template <class T, int kN>
struct RotatePairs {
  int64_t first, window, n, width, d;
  T direction;
  const T *x, *angles;
  T* y;
  __device__ void operator()(int64_t run) const {
    const int64_t half = d / 2, pair = run * kN, head = pair / half, k = pair - head * half, at = head * d + k;
    const T* position = angles + (first + at / width % n % window) * d + k;
    T a[kN], b[kN], c[kN], s[kN];
    load_numbers(x + at, a);
    load_numbers(x + at + half, b);
    load_numbers(position, c);
    load_numbers(position + half, s);
#pragma unroll
    for (int e = 0; e < kN; ++e) {
      const T u = a[e], v = b[e], sine = s[e] * direction;
      a[e] = u * c[e] - v * sine;
      b[e] = v * c[e] + u * sine;
    }
    store_numbers(a, y + at);
    store_numbers(b, y + at + half);
  }
};

}  // namespace

void rotary(Cuda, const Rotation& how, const Tensor& x, const Tensor& table, const Tensor& y) {
  const int64_t d = table.dim(2);
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* angles = data<T>(table) + how.which * table.dim(1) * d;
    dispatch_run<T>(d / 2, [&]<int kN>() {
      for_each(x.numel() / 2 / kN, RotatePairs<T, kN>{how.first, how.window, how.n, row_width(x), d,
                                                      T(how.inverse ? -1 : 1), data<T>(x), angles, data<T>(y)});
    });
  });
}

}  // namespace rondo
