// Repeating a tensor to a larger shape, and its adjoint: the one place where gradients of repeated inputs are summed.
// Private to autograd; neither records anything.
#pragma once
#include "autograd/tape.h"
#include "tensor/broadcast.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {

// The shape that a and b broadcast to; throws where they do not.
inline Shape common_shape(const char* op, const Tensor& a, const Tensor& b) {
  const Shape shape = broadcast_shape(a.shape(), b.shape());
  check(broadcasts(a.shape(), shape) && broadcasts(b.shape(), shape), op, ": a has shape ", a.shape(),
        ", but b has shape ", b.shape(), ", and these do not broadcast");
  return shape;
}

inline Tensor repeated_to(const Tensor& x, const Shape& shape) {
  Tensor y(shape, x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { copy_strided(device, x, broadcast_strides(x.shape(), shape), y); });
  return y;
}

inline Tensor summed_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  if (x.numel() == shape.numel()) return detach(x).view(shape);
  Tensor y(shape, x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { sum_to(device, x, y); });
  return y;
}

// What a rule keeps of an input that was perhaps repeated: not its elements, but where its gradient goes.
class Repeated {
 public:
  explicit Repeated(const Tensor& x) : shape_(x.shape()), wanted_(is_tracked(x)) {}
  bool wanted() const { return wanted_; }
  // The gradient, from the one of the repeated input.
  Tensor gradient(const Tensor& g) const { return wanted_ ? summed_to(g, shape_) : Tensor(); }

 private:
  Shape shape_;
  bool wanted_;
};

}  // namespace rondo
