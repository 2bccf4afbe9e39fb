// Comparing, choosing between two tensors, and choosing one element of each line.
#include <limits>

#include "cuda/strided.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class T>
struct Compare {
  Relation how;
  Strided place_a, place_b;
  const T *a, *b;
  uint8_t* mask;
  __device__ void operator()(int64_t i) const {
    mask[i] = holds(how, computed_t<T>(a[place_a(i)]), computed_t<T>(b[place_b(i)]));
  }
};
template <class U>
struct Where {  // what only moves needs no dtype, just its width
  Strided place_mask, place_a, place_b;
  const uint8_t* mask;
  const U *a, *b;
  U* y;
  __device__ void operator()(int64_t i) const { y[i] = mask[place_mask(i)] ? a[place_a(i)] : b[place_b(i)]; }
};

// A warp a line: each lane finds the best of every 32nd number, then all compare. Of equal ones the first is best.
constexpr int kWarps = int(kThreads) / 32;
template <class T>
__global__ void argmax_kernel(Lines lines, const T* x, int64_t* index) {
  const int lane = int(threadIdx.x % 32);
  for (int64_t line = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32; line < lines.count();
       line += int64_t(gridDim.x) * kWarps) {
    const T* from = x + lines.first(line);
    int64_t best = lane < lines.n ? lane : 0;
    T top = from[best * lines.inner];
    for (int64_t j = lane + 32; j < lines.n; j += 32) {
      const T v = from[j * lines.inner];
      if (beats(v, top)) top = v, best = j;
    }
    for (int i = 16; i > 0; i /= 2) {
      const T other = __shfl_xor_sync(~0u, top, i);
      const int64_t at = __shfl_xor_sync(~0u, best, i);
      if (beats(other, top) || (!beats(top, other) && at < best)) top = other, best = at;
    }
    if (lane == 0) index[line] = best;
  }
}

// Nobody looked at the index: what is outside picks NaN, and has no gradient.
template <class T>
struct Pick {
  Lines lines;
  const T* x;
  const int64_t* index;
  T* y;
  __device__ void operator()(int64_t line) const {
    const int64_t j = index[line];
    const bool inside = j >= 0 && j < lines.n;
    y[line] = inside ? x[lines.first(line) + j * lines.inner] : std::numeric_limits<T>::quiet_NaN();
  }
};
template <class T>
struct PickBackward {
  Lines lines;
  const T* dy;
  const int64_t* index;
  T* dx;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / lines.inner, line = row / lines.n * lines.inner + i % lines.inner;
    dx[i] = index[line] == row % lines.n ? dy[line] : T(0);
  }
};

}  // namespace

void compare(Cuda, Relation how, const Tensor& a, const Tensor& b, const Tensor& mask) {
  const auto place = [&](const Tensor& t) { return Strided(mask.shape(), broadcast_strides(t.shape(), mask.shape())); };
  dispatch_any(a.dtype(), [&]<class T>() {
    for_each(mask.numel(), Compare<T>{how, place(a), place(b), data<T>(a), data<T>(b), data<uint8_t>(mask)});
  });
}

void where(Cuda, const Tensor& mask, const Tensor& a, const Tensor& b, const Tensor& y) {
  const auto place = [&](const Tensor& t) { return Strided(y.shape(), broadcast_strides(t.shape(), y.shape())); };
  dispatch_width(size_of(y.dtype()), [&]<class U>(U) {
    for_each(y.numel(), Where<U>{place(mask), place(a), place(b), data<uint8_t>(mask), static_cast<const U*>(a.bytes()),
                                 static_cast<const U*>(b.bytes()), static_cast<U*>(y.bytes())});
  });
}

void argmax(Cuda, const Tensor& x, const Lines& lines, const Tensor& index) {
  if (index.numel() == 0) return;
  dispatch_float(x.dtype(), [&]<class T>() {
    launch({blocks_for(index.numel(), kWarps), kThreads, 0, stream()}, argmax_kernel<T>, lines, data<T>(x),
           data<int64_t>(index));
  });
}

void pick_forward(Cuda, const Tensor& x, const Lines& lines, const Tensor& index, const Tensor& y) {
  dispatch_float(x.dtype(), [&]<class T>() {
    for_each(y.numel(), Pick<T>{lines, data<T>(x), data<int64_t>(index), data<T>(y)});
  });
}

void pick_backward(Cuda, const Tensor& dy, const Lines& lines, const Tensor& index, const Tensor& dx) {
  dispatch_float(dy.dtype(), [&]<class T>() {
    for_each(dx.numel(), PickBackward<T>{lines, data<T>(dy), data<int64_t>(index), data<T>(dx)});
  });
}

}  // namespace rondo
