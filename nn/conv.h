// torch.nn.Conv2d, and pooling, over images [B, C, H, W].
#pragma once
#include <string>

#include "../autograd/ops.h"
#include "../tensor/check.h"
#include "init.h"

namespace rondo {

struct Conv2d {
  struct Options {
    int64_t stride = 1, padding = 0;  // zeros around each image
    bool bias = true;
  };
  Options how;
  Tensor weight;  // [out, in, size, size]
  Tensor bias;    // [out], or {}

  Conv2d() = default;
  // Kernels of size x size from `in` channels to `out`.
  Conv2d(int64_t in, int64_t out, int64_t size, Options options, Generator& g, DType dtype = DType::f32)
      : how(options),
        weight(linear_init({out, in, size, size}, in * size * size, g, dtype)),
        bias(how.bias ? linear_init({out}, in * size * size, g, dtype) : Tensor()) {}

  // x [B, in, H, W] -> [B, out, H', W'] (unfold says how large): y[b, o] = bias[o] + the sum over c, i, j of
  // weight[o, c, i, j] x[b, c, stride y + i - padding, stride x + j - padding].
  Tensor operator()(const Tensor& x) const {
    check(bool(x) && x.rank() == 4 && x.dim(1) == weight.dim(1), "Conv2d: x has shape ", x ? x.shape() : Shape{},
          ", but weight ", weight.shape(), " asks for [B, ", weight.dim(1), ", H, W]");
    const int64_t out = weight.dim(0), terms = weight.dim(1) * weight.dim(2) * weight.dim(3);
    const Tensor seen = unfold(x, {weight.dim(2), weight.dim(3), how.stride, how.padding});
    const int64_t height = seen.dim(4), width = seen.dim(5);
    const Tensor y = matmul(reshape(weight, {out, terms}), reshape(seen, {x.dim(0), terms, height * width}));
    return reshape(bias ? y + reshape(bias, {out, 1}) : y, {x.dim(0), out, height, width});
  }

  template <class F>
  void each(F&& f) {
    f("weight", weight, true);
    if (bias) f("bias", bias, true);
  }
};

// The largest of each window of size x size (torch.nn.MaxPool2d), which begin `stride` apart; 0: side by side. What is
// left at the right and below, too little for a window, is not seen.
inline Tensor max_pool2d(const Tensor& x, int64_t size, int64_t stride = 0) {
  const Tensor seen = unfold(x, {size, size, stride ? stride : size});
  return max(reshape(seen, {x.dim(0), x.dim(1), size * size, seen.dim(4), seen.dim(5)}), 2);
}

// The mean of each window (torch.nn.AvgPool2d).
inline Tensor avg_pool2d(const Tensor& x, int64_t size, int64_t stride = 0) {
  const Tensor seen = unfold(x, {size, size, stride ? stride : size});
  return mean(reshape(seen, {x.dim(0), x.dim(1), size * size, seen.dim(4), seen.dim(5)}), 2);
}

}  // namespace rondo
