// Choosing one element of each line along an axis. Kept for the backward pass: which.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

// The axis of x whose lines are chosen from.
int line_axis(const char* op, const Tensor& x, int axis) {
  check_float(op, "x", x);
  const int a = axis_of(op, "axis", axis, "x", x);
  check(x.dim(a) > 0 || x.shape().without(a).numel() == 0, op, ": axis ", axis, " of x ", x.shape(),
        " has no elements");
  return a;
}

}  // namespace

Tensor argmax(const Tensor& x, int axis) {
  const int a = line_axis("argmax", x, axis);
  const Tensor index(x.shape().without(a), DType::i64, x.device());
  dispatch(x.device(), [&](auto device) { argmax(device, x, Lines::along(x.shape(), a), index); });
  return index;
}

Tensor pick(const Tensor& x, const Tensor& given, int axis) {
  const int a = line_axis("pick", x, axis);
  check_indices("pick", "index", given, "x", x);
  const Shape shape = x.shape().without(a);
  check(given.shape() == shape, "pick: index has shape ", given.shape(), ", but x ", x.shape(), " without axis ", axis,
        " is ", shape);
  const int64_t n = x.dim(a);
  const int64_t bad = given.device() == Device::cpu ? first_token_outside(given, n, 0) : -1;
  if (bad >= 0)
    fail("pick: index holds ", given.data<int64_t>()[bad], " at index ", bad, ", but axis ", axis, " of x ", x.shape(),
         " has ", n, " elements");
  const Tensor index = to(given, x.device());
  Tensor y(shape, x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { pick_forward(device, x, Lines::along(x.shape(), a), index, y); });
  return record("pick", {x}, y, [index, from = x.shape(), a](const Tensor& dy) -> Grads {
    Tensor dx(from, dy.dtype(), dy.device());
    dispatch(dy.device(), [&](auto device) { pick_backward(device, dy, Lines::along(from, a), index, dx); });
    return {dx};
  });
}

Tensor max(const Tensor& x, int axis) {
  const int a = line_axis("max", x, axis);
  return pick(x, argmax(x, a), a);
}

Tensor min(const Tensor& x, int axis) {
  const int a = line_axis("min", x, axis);
  return -max(-x, a);
}

}  // namespace rondo
