// Windows over images as columns, which makes a convolution of a product.
#include <algorithm>

#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

Windows windows_over(const Tensor& x, const Window& w) {
  check_float("unfold", "x", x);
  check(x.rank() == 4, "unfold: x has shape ", x.shape(), ", but the op asks for [B, C, H, W]");
  const int64_t height = x.dim(2), width = x.dim(3);
  check(w.height >= 1 && w.width >= 1 && w.stride >= 1, "unfold: the window is ", w.height, " x ", w.width,
        " with stride ", w.stride, ", but all three must be at least 1");
  check(w.padding >= 0 && w.padding < std::max(w.height, w.width), "unfold: the padding is ", w.padding,
        ", but must be from 0 to less than the window, ", w.height, " x ", w.width);
  const bool counted = w.padding <= (INT64_MAX - std::max(height, width)) / 2;
  check(counted && height + 2 * w.padding >= w.height && width + 2 * w.padding >= w.width, "unfold: a window of ",
        w.height, " x ", w.width, " does not go into the images of x ", x.shape(), " with padding ", w.padding);
  return {.planes = x.dim(0) * x.dim(1),
          .in_height = height,
          .in_width = width,
          .height = w.height,
          .width = w.width,
          .stride = w.stride,
          .padding = w.padding,
          .out_height = (height + 2 * w.padding - w.height) / w.stride + 1,
          .out_width = (width + 2 * w.padding - w.width) / w.stride + 1};
}

}  // namespace

Tensor unfold(const Tensor& x, const Window& window) {
  const Windows how = windows_over(x, window);
  const Tensor y({x.dim(0), x.dim(1), how.height, how.width, how.out_height, how.out_width}, x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { unfold(device, how, x, y); });
  const auto rule = [how, size = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx(size, dy.dtype(), dy.device());
    dispatch(dy.device(), [&](auto device) { fold(device, how, dy, dx); });
    return {dx};
  };
  return record("unfold", {x}, y, rule);
}

}  // namespace rondo
