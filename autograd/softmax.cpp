// Softmax and its logarithm over the last dimension. Both keep their result alone for the backward pass.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

void check_rows(const char* op, const Tensor& x) {
  check_float(op, "x", x);
  check(x.rank() >= 1, op, ": x has shape ", x.shape(), ", but the op asks for rows");
}

}  // namespace

Tensor softmax(const Tensor& x) {
  check_rows("softmax", x);
  Tensor y = empty_like(x);
  dispatch(x.device(), [&](auto device) { softmax_forward(device, x, y); });
  return record("softmax", {x}, y, [y](const Tensor& dy) -> Grads {
    Tensor dx = empty_like(y);
    dispatch(y.device(), [&](auto device) { softmax_backward(device, dy, y, dx); });
    return {dx};
  });
}

Tensor log_softmax(const Tensor& x) {
  check_rows("log_softmax", x);
  Tensor y = empty_like(x);
  dispatch(x.device(), [&](auto device) { log_softmax_forward(device, x, y); });
  return record("log_softmax", {x}, y, [y](const Tensor& dy) -> Grads {
    Tensor dx = empty_like(y);
    dispatch(y.device(), [&](auto device) { log_softmax_backward(device, dy, y, dx); });
    return {dx};
  });
}

}  // namespace rondo
