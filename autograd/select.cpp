// Choosing one element of each line along an axis. Kept for the backward pass: which.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

Shape without(const Shape& shape, int axis) {
  Shape rest;
  for (int i = 0; i < shape.rank(); ++i)
    if (i != axis) rest.push_back(shape[i]);
  return rest;
}

Lines lines_of(const Shape& shape, int axis) {
  Lines lines{1, shape[axis], 1};
  for (int i = 0; i < axis; ++i) lines.outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) lines.inner *= shape[i];
  return lines;
}

}  // namespace

Tensor argmax(const Tensor& x, int axis) {
  check_float("argmax", "x", x);
  const int a = axis_of("argmax", "axis", axis, "x", x);
  const Tensor index(without(x.shape(), a), DType::i64, x.device());
  check(x.dim(a) > 0 || index.numel() == 0, "argmax: axis ", axis, " of x ", x.shape(), " has no elements");
  dispatch(x.device(), [&](auto device) { argmax(device, x, lines_of(x.shape(), a), index); });
  return index;
}

Tensor pick(const Tensor& x, const Tensor& given, int axis) {
  check_float("pick", "x", x);
  check_indices("pick", "index", given, "x", x);
  const int a = axis_of("pick", "axis", axis, "x", x);
  const Shape shape = without(x.shape(), a);
  check(given.shape() == shape, "pick: index has shape ", given.shape(), ", but x ", x.shape(), " without axis ", axis,
        " is ", shape);
  const int64_t n = x.dim(a);
  check(n > 0 || given.numel() == 0, "pick: axis ", axis, " of x ", x.shape(), " has no elements");
  const int64_t bad = given.device() == Device::cpu ? first_token_outside(given, n, 0) : -1;
  if (bad >= 0)
    fail("pick: index holds ", given.data<int64_t>()[bad], " at index ", bad, ", but axis ", axis, " of x ", x.shape(),
         " has ", n, " elements");
  const Tensor index = to(given, x.device());
  Tensor y(shape, x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { pick_forward(device, x, lines_of(x.shape(), a), index, y); });
  return record("pick", {x}, y, [index, from = x.shape(), a](const Tensor& dy) -> Grads {
    Tensor dx(from, dy.dtype(), dy.device());
    dispatch(dy.device(), [&](auto device) { pick_backward(device, dy, lines_of(from, a), index, dx); });
    return {dx};
  });
}

}  // namespace rondo
