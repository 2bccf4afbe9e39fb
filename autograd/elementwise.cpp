// Elementwise arithmetic and functions, and the gated GELU.
#include "autograd/arguments.h"
#include "autograd/broadcast.h"
#include "autograd/ops.h"

namespace rondo {
namespace {

Tensor combined(Binary f, const Tensor& a, const Tensor& b) {
  Tensor y(broadcast_shape(a.shape(), b.shape()), a.dtype(), a.device());
  dispatch(a.device(), [&](auto device) { binary(device, f, a, b, y); });
  return y;
}

Tensor mapped(const Unary& f, const Tensor& x) {
  Tensor y = empty_like(x);
  dispatch(x.device(), [&](auto device) { unary(device, f, x, y); });
  return y;
}

Tensor checked_binary(const char* op, Binary f, const Tensor& a, const Tensor& b) {
  check_float(op, "a", a);
  check_alike(op, "b", b, "a", a);
  common_shape(op, a, b);
  return combined(f, a, b);
}

// The larger or smaller of a and b.
Tensor extreme(const char* op, Binary f, const Tensor& a, const Tensor& b) {
  const Tensor y = checked_binary(op, f, a, b);
  return record(op, {a, b}, y, [f, a, b, to_a = Repeated(a), to_b = Repeated(b)](const Tensor& dy) -> Grads {
    const auto share = [&](const Tensor& u, const Tensor& v) {  // of u, beside v
      const bool larger = f == Binary::larger;
      return combined(Binary::passed, dy, combined(Binary::above, larger ? u : v, larger ? v : u));
    };
    return {to_a.wanted() ? to_a.gradient(share(a, b)) : Tensor(),
            to_b.wanted() ? to_b.gradient(share(b, a)) : Tensor()};
  });
}

enum class Keep { x, y };  // what the slope follows from

Tensor unary_op(const char* op, const Unary& f, Keep keep, const Tensor& x) {
  check_float(op, "x", x);
  const Tensor y = mapped(f, x);
  return record(op, {x}, y, [f, kept = keep == Keep::x ? x : y](const Tensor& dy) -> Grads {
    Tensor dx = empty_like(kept);
    dispatch(kept.device(), [&](auto device) { unary_backward(device, f, dy, kept, kept, dx); });
    return {dx};
  });
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  const Tensor y = checked_binary("add", Binary::add, a, b);
  return record("add", {a, b}, y, [to_a = Repeated(a), to_b = Repeated(b)](const Tensor& dy) -> Grads {
    return {to_a.gradient(dy), to_b.gradient(dy)};
  });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  const Tensor y = checked_binary("sub", Binary::sub, a, b);
  return record("sub", {a, b}, y, [to_a = Repeated(a), to_b = Repeated(b)](const Tensor& dy) -> Grads {
    const Tensor db = to_b.gradient(dy);
    return {to_a.gradient(dy), db ? mapped(Scale{-1}, db) : db};
  });
}

// Each factor is kept only for the gradient of the other.
Tensor mul(const Tensor& a, const Tensor& b) {
  const Tensor y = checked_binary("mul", Binary::mul, a, b);
  const Repeated to_a(a), to_b(b);
  return record("mul", {a, b}, y,
                [to_a, to_b, a = to_b.wanted() ? a : Tensor(), b = to_a.wanted() ? b : Tensor()](const Tensor& dy) {
                  return Grads{b ? to_a.gradient(combined(Binary::mul, dy, b)) : Tensor(),
                               a ? to_b.gradient(combined(Binary::mul, dy, a)) : Tensor()};
                });
}

// d(a / b) = da / b - (a / b) db / b
Tensor div(const Tensor& a, const Tensor& b) {
  const Tensor y = checked_binary("div", Binary::div, a, b);
  const Repeated to_a(a), to_b(b);
  return record("div", {a, b}, y, [to_a, to_b, b, y = to_b.wanted() ? y : Tensor()](const Tensor& dy) -> Grads {
    const Tensor g = combined(Binary::div, dy, b);
    if (!y) return {to_a.gradient(g), Tensor()};
    return {to_a.gradient(g), mapped(Scale{-1}, to_b.gradient(combined(Binary::mul, g, y)))};
  });
}

Tensor maximum(const Tensor& a, const Tensor& b) { return extreme("maximum", Binary::larger, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return extreme("minimum", Binary::smaller, a, b); }

Tensor maximum(const Tensor& a, Number b) {
  check_float("maximum", "a", a);
  return maximum(a, full({}, b.value, a.dtype(), a.device()));
}
Tensor minimum(const Tensor& a, Number b) {
  check_float("minimum", "a", a);
  return minimum(a, full({}, b.value, a.dtype(), a.device()));
}

Tensor scale(const Tensor& x, double factor) {
  check_float("scale", "x", x);
  return record("scale", {x}, mapped(Scale{factor}, x),
                [factor](const Tensor& dy) -> Grads { return {mapped(Scale{factor}, dy)}; });
}

Tensor cast(const Tensor& x, DType dtype) {
  check(bool(x) && is_float(x.dtype()) && is_float(dtype), "cast: from ", x ? x.dtype() : dtype, " to ", dtype,
        ", but gradients are for f32, f64 and bf16 only; to(x, dtype) converts without one");
  if (x.dtype() == dtype) return Tape::current() ? x : detach(x);  // a NoTape may end before the result does
  return record("cast", {x}, to(detach(x), dtype),
                [from = x.dtype()](const Tensor& dy) -> Grads { return {to(dy, from)}; });
}

Tensor exp(const Tensor& x) { return unary_op("exp", Exp(), Keep::y, x); }
Tensor log(const Tensor& x) { return unary_op("log", Log(), Keep::x, x); }
Tensor tanh(const Tensor& x) { return unary_op("tanh", Tanh(), Keep::y, x); }
Tensor sigmoid(const Tensor& x) { return unary_op("sigmoid", Sigmoid(), Keep::y, x); }
Tensor relu(const Tensor& x) { return unary_op("relu", Relu(), Keep::x, x); }
Tensor gelu(const Tensor& x) { return unary_op("gelu", Gelu(), Keep::x, x); }
Tensor silu(const Tensor& x) { return unary_op("silu", Silu(), Keep::x, x); }
Tensor softplus(const Tensor& x) { return unary_op("softplus", Softplus(), Keep::x, x); }
Tensor sqrt(const Tensor& x) { return unary_op("sqrt", Sqrt(), Keep::y, x); }
Tensor abs(const Tensor& x) { return unary_op("abs", Abs(), Keep::x, x); }
Tensor clamp(const Tensor& x, double low, double high) {
  check(low <= high, "clamp: low is ", low, ", but high is ", high);
  return unary_op("clamp", Clamp{low, high}, Keep::x, x);
}

Tensor geglu(const Tensor& x) {
  check_activation("geglu", "x", x);
  check(x.rank() > 0 && x.dim(-1) % 2 == 0, "geglu: x has shape ", x.shape(), ", but the op asks for two equal halves");
  Tensor y(x.shape().with(-1, x.dim(-1) / 2), x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { geglu_forward(device, x, y); });
  return record("geglu", {x}, y, [x](const Tensor& dy) -> Grads {
    Tensor dx = empty_like(x);
    dispatch(x.device(), [&](auto device) { geglu_backward(device, dy, x, dx); });
    return {dx};
  });
}

}  // namespace rondo
