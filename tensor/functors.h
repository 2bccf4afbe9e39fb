// Elementwise maths, written once: X is a number on a GPU and an Eigen array on the CPU, which Eigen vectorises.
// value(x) is the function, slope(x, y) its derivative at x where y = value(x).
#pragma once
#include <cmath>
#include <type_traits>
#include <variant>

namespace rondo {

template <class X>
struct ScalarOf {
  using type = X;
};
template <class X>
requires requires { typename X::Scalar; }
struct ScalarOf<X> {
  using type = typename X::Scalar;
};
template <class X>
using scalar_t = typename ScalarOf<std::remove_cvref_t<X>>::type;

struct Exp {
  template <class X>
  auto value(const X& x) const {
    using std::exp;
    return exp(x);
  }
  template <class X>
  auto slope(const X&, const X& y) const {
    return y;
  }
};

struct Log {
  template <class X>
  auto value(const X& x) const {
    using std::log;
    return log(x);
  }
  template <class X>
  auto slope(const X& x, const X&) const {
    return scalar_t<X>(1) / x;
  }
};

struct Tanh {
  template <class X>
  auto value(const X& x) const {
    using std::tanh;
    return tanh(x);
  }
  template <class X>
  auto slope(const X&, const X& y) const {
    return scalar_t<X>(1) - y * y;
  }
};

struct Sigmoid {
  template <class X>
  auto value(const X& x) const {
    using std::exp;
    using T = scalar_t<X>;
    return T(1) / (T(1) + exp(-x));  // exp may overflow to infinity: the result is then 0, as it should be
  }
  template <class X>
  auto slope(const X&, const X& y) const {
    return y * (scalar_t<X>(1) - y);
  }
};

struct Relu {
  template <class X>
  auto value(const X& x) const {
    using T = scalar_t<X>;
    return (x > T(0)).select(x, T(0));
  }
  template <class X>
  auto slope(const X& x, const X&) const {
    using T = scalar_t<X>;
    return (x > T(0)).template cast<T>();
  }
};

struct Gelu {  // x * Phi(x)
  template <class X>
  auto value(const X& x) const {
    using std::erf;
    using T = scalar_t<X>;
    return x * (T(0.5) * (T(1) + erf(x * T(0.70710678118654752))));
  }
  template <class X>
  auto slope(const X& x, const X&) const {
    using std::erf, std::exp;
    using T = scalar_t<X>;
    return T(0.5) * (T(1) + erf(x * T(0.70710678118654752))) + x * exp(x * x * T(-0.5)) * T(0.39894228040143268);
  }
};

struct Scale {
  double factor;
  template <class X>
  auto value(const X& x) const {
    return x * scalar_t<X>(factor);
  }
  template <class X>
  auto slope(const X& x, const X&) const {
    return x * scalar_t<X>(0) + scalar_t<X>(factor);
  }
};

using Unary = std::variant<Exp, Log, Tanh, Sigmoid, Relu, Gelu, Scale>;

enum class Binary { add, sub, mul, div };

}  // namespace rondo
