// Sums and means.
#include "autograd/arguments.h"
#include "autograd/broadcast.h"
#include "autograd/ops.h"

namespace rondo {
namespace {

// Sums x to `kept`, a shape that broadcasts to x's, and gives the result the shape `shape`.
Tensor summed(const char* op, const Tensor& x, const Shape& kept, const Shape& shape) {
  return record(op, {x}, detach(summed_to(x, kept)).view(shape),
                [kept, from = x.shape()](const Tensor& dy) -> Grads { return {repeated_to(dy.view(kept), from)}; });
}

Tensor summed_all(const char* op, const Tensor& x) {
  check_float(op, "x", x);
  return summed(op, x, {}, {});
}

Tensor summed_along(const char* op, const Tensor& x, int axis) {
  check_float(op, "x", x);
  const int a = axis_of(op, "axis", axis, "x", x);
  return summed(op, x, x.shape().with(a, 1), x.shape().without(a));
}

}  // namespace

Tensor sum(const Tensor& x) { return summed_all("sum", x); }
Tensor sum(const Tensor& x, int axis) { return summed_along("sum", x, axis); }
Tensor mean(const Tensor& x) {
  const Tensor total = summed_all("mean", x);
  return scale(total, 1.0 / double(x.numel()));
}
Tensor mean(const Tensor& x, int axis) {
  const Tensor total = summed_along("mean", x, axis);
  return scale(total, 1.0 / double(x.dim(axis)));
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  check_float("sum_to", "x", x);
  check(broadcasts(shape, x.shape()), "sum_to: x has shape ", x.shape(), ", but shape is ", shape,
        ", which does not broadcast to it");
  return summed("sum_to", x, shape, shape);
}

}  // namespace rondo
