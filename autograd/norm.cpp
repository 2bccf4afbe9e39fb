// Norms of rows and heads. Kept for the backward pass: x and, per row, its mean and 1/sqrt(var + eps).
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

void check_norm(const char* op, const Tensor& x, const Tensor& gamma) {
  check_float(op, "x", x);
  check_alike(op, "gamma", gamma, "x", x);
  check(x.rank() >= 1, op, ": x has shape ", x.shape(), ", but a norm asks for rows");
  check(gamma.shape() == Shape{x.dim(-1)}, op, ": gamma has shape ", gamma.shape(), ", but the rows of x ", x.shape(),
        " have width ", x.dim(-1));
}

// One number a row of x.
Tensor empty_rows(const Tensor& x) {
  Shape shape = x.shape();
  shape.pop_back();
  return Tensor(shape, x.dtype(), x.device());
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& gamma, double eps, std::optional<DType> result) {
  check_norm("layer_norm", x, gamma);
  const DType dtype = result.value_or(x.dtype());
  check(dtype == x.dtype() || (dtype == DType::bf16 && x.dtype() == DType::f32), "layer_norm: x is ", x.dtype(),
        ", but the result is to be ", dtype, "; it can be that of x, or bf16 where x is f32");
  Tensor y(x.shape(), dtype, x.device()), mean = empty_rows(x), rstd = empty_rows(x);
  dispatch(x.device(), [&](auto device) { layer_norm_forward(device, x, gamma, eps, y, mean, rstd); });
  return record("layer_norm", {x, gamma}, y, [x, gamma, mean, rstd](const Tensor& dy, SoFar& so_far) -> Grads {
    const Into dx = so_far.into(0, x), dgamma = so_far.into(1, gamma);
    dispatch(x.device(), [&](auto device) { layer_norm_backward(device, dy, x, gamma, mean, rstd, dx, dgamma); });
    return {dx.tensor, dgamma.tensor};
  });
}

Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps) {
  check_norm("rms_norm", x, gamma);
  Tensor y = empty_like(x), rstd = empty_rows(x);
  dispatch(x.device(), [&](auto device) { rms_norm_forward(device, x, gamma, eps, y, rstd); });
  return record("rms_norm", {x, gamma}, y, [x, gamma, rstd](const Tensor& dy, SoFar& so_far) -> Grads {
    const Into dx = so_far.into(0, x), dgamma = so_far.into(1, gamma);
    dispatch(x.device(), [&](auto device) { rms_norm_backward(device, dy, x, gamma, rstd, dx, dgamma); });
    return {dx.tensor, dgamma.tensor};
  });
}

Tensor l2_normalize(const Tensor& x, const Tensor& scale) {
  check_float("l2_normalize", "x", x);
  check_alike("l2_normalize", "scale", scale, "x", x);
  check(scale.rank() == 1 && scale.numel() > 0, "l2_normalize: scale has shape ", scale.shape(),
        ", but a head asks for (D), D >= 1");
  check(x.rank() >= 1 && x.dim(-1) % scale.numel() == 0, "l2_normalize: x has shape ", x.shape(), ", but scale ",
        scale.shape(), " asks for rows of heads of width ", scale.numel());
  Tensor y = empty_like(x);
  dispatch(x.device(), [&](auto device) { l2_normalize_forward(device, x, scale, y); });
  return record("l2_normalize", {x, scale}, y, [x, scale](const Tensor& dy, SoFar& so_far) -> Grads {
    Tensor dx = empty_like(x);
    const Into dscale = so_far.into(1, scale);
    dispatch(x.device(), [&](auto device) { l2_normalize_backward(device, dy, x, scale, dx, dscale); });
    return {dx, dscale.tensor};
  });
}

}  // namespace rondo
