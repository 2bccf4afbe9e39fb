// Comparing, and choosing: between two tensors, or one element of each line along an axis. Kept for the backward pass:
// which.
#include "autograd/arguments.h"
#include "autograd/broadcast.h"
#include "autograd/ops.h"

namespace rondo {
namespace {

enum class Order { given, turned };  // "a > b" is "b < a"

Tensor compared(const char* op, Relation how, const Tensor& a, const Tensor& b, Order order = Order::given) {
  check_alike(op, "b", b, "a", a);
  const Tensor mask(common_shape(op, a, b), DType::u8, a.device());
  const bool turned = order == Order::turned;
  dispatch(a.device(), [&](auto device) { compare(device, how, turned ? b : a, turned ? a : b, mask); });
  return mask;
}
// With a number, which integers need not have: as f64, then.
Tensor compared(const char* op, Relation how, const Tensor& a, Number b, Order order = Order::given) {
  check(bool(a), op, ": a is missing");
  const Tensor x = is_float(a.dtype()) ? a : to(a, DType::f64);
  return compared(op, how, x, full({}, b.value, x.dtype(), x.device()), order);
}

Tensor chosen(const Tensor& mask, const Tensor& a, const Tensor& b, const Shape& shape) {
  const Tensor y(shape, a.dtype(), a.device());
  dispatch(a.device(), [&](auto device) { where(device, mask, a, b, y); });
  return y;
}

// The axis of x whose lines are chosen from.
int line_axis(const char* op, const Tensor& x, int axis) {
  check_float(op, "x", x);
  const int a = axis_of(op, "axis", axis, "x", x);
  check(x.dim(a) > 0 || x.shape().without(a).numel() == 0, op, ": axis ", axis, " of x ", x.shape(),
        " has no elements");
  return a;
}

}  // namespace

Tensor equal(const Tensor& a, const Tensor& b) { return compared("equal", Relation::equal, a, b); }
Tensor equal(const Tensor& a, Number b) { return compared("equal", Relation::equal, a, b); }
Tensor not_equal(const Tensor& a, const Tensor& b) { return compared("not_equal", Relation::not_equal, a, b); }
Tensor not_equal(const Tensor& a, Number b) { return compared("not_equal", Relation::not_equal, a, b); }
Tensor less(const Tensor& a, const Tensor& b) { return compared("less", Relation::less, a, b); }
Tensor less(const Tensor& a, Number b) { return compared("less", Relation::less, a, b); }
Tensor less_equal(const Tensor& a, const Tensor& b) { return compared("less_equal", Relation::less_equal, a, b); }
Tensor less_equal(const Tensor& a, Number b) { return compared("less_equal", Relation::less_equal, a, b); }
Tensor greater(const Tensor& a, const Tensor& b) { return compared("greater", Relation::less, a, b, Order::turned); }
Tensor greater(const Tensor& a, Number b) { return compared("greater", Relation::less, a, b, Order::turned); }
Tensor greater_equal(const Tensor& a, const Tensor& b) {
  return compared("greater_equal", Relation::less_equal, a, b, Order::turned);
}
Tensor greater_equal(const Tensor& a, Number b) {
  return compared("greater_equal", Relation::less_equal, a, b, Order::turned);
}

Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b) {
  check_alike("where", "b", b, "a", a);
  check(bool(mask), "where: mask is missing");
  check(mask.dtype() == DType::u8, "where: mask is ", mask.dtype(),
        ", but masks are u8, as comparisons make them (equal, less, ...)");
  check(mask.device() == a.device(), "where: mask is on ", mask.device(), ", but a is on ", a.device());
  const Shape both = common_shape("where", a, b), shape = broadcast_shape(mask.shape(), both);
  check(broadcasts(mask.shape(), shape) && broadcasts(both, shape), "where: mask has shape ", mask.shape(),
        ", but a and b together have ", both, ", and these do not broadcast");
  return record("where", {a, b}, chosen(mask, a, b, shape),
                [mask, to_a = Repeated(a), to_b = Repeated(b)](const Tensor& dy) -> Grads {
                  const Tensor none = zeros({}, dy.dtype(), dy.device());
                  const auto share = [&](const Repeated& to, const Tensor& if_a, const Tensor& if_b) {
                    return to.wanted() ? to.gradient(chosen(mask, if_a, if_b, dy.shape())) : Tensor();
                  };
                  return {share(to_a, dy, none), share(to_b, none, dy)};
                });
}

Tensor where(const Tensor& mask, const Tensor& a, Number b) {
  check(bool(a), "where: a is missing");
  return where(mask, a, full({}, b.value, a.dtype(), a.device()));
}
Tensor where(const Tensor& mask, Number a, const Tensor& b) {
  check(bool(b), "where: b is missing");
  return where(mask, full({}, a.value, b.dtype(), b.device()), b);
}

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
