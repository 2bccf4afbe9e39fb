// Elementwise maths, written once: X is a number on a GPU and an Eigen array on the CPU, which Eigen vectorises.
// value(x) is the function, slope(x, y) its derivative at x where y = value(x). A function with kinks has chain(d, x,
// y) instead, its derivative times d.
#pragma once
#include <cmath>
#include <limits>
#include <type_traits>
#include <variant>

#include "tensor/device.h"

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

// The type that holds what an expression of arrays gives: worked out once, used often.
template <class X>
struct PlainOf {
  using type = X;
};
template <class X>
requires requires { typename X::PlainObject; }
struct PlainOf<X> {
  using type = typename X::PlainObject;
  static_assert(X::SizeAtCompileTime > 0, "arrays of fixed size only: others would ask for memory");
};
template <class X>
using plain_t = typename PlainOf<std::remove_cvref_t<X>>::type;

// The few places where a number and an array are written differently. NaN stays NaN.
template <class X>
inline constexpr bool is_number = std::is_arithmetic_v<std::remove_cvref_t<X>>;
template <class X>
RONDO_ANYWHERE auto at_least(const X& x, scalar_t<X> low) {
  if constexpr (is_number<X>)
    return x < low ? low : x;
  else
    return x.max(low);
}
template <class X>
RONDO_ANYWHERE auto at_most(const X& x, scalar_t<X> high) {
  if constexpr (is_number<X>)
    return high < x ? high : x;
  else
    return x.min(high);
}
// d where the condition holds, else 0: also of an infinite d.
template <class C, class D>
RONDO_ANYWHERE plain_t<D> only_where(const C& condition, const D& d) {
  if constexpr (is_number<C>)
    return condition ? d : D(0);
  else
    return condition.select(d, scalar_t<D>(0));
}
// y >= 0 where x > low, else 0: a comparison of arrays would not be vectorised by Eigen 3.
template <class Y, class X>
RONDO_ANYWHERE auto zero_below(const Y& y, const X& x, scalar_t<X> low) {
  if constexpr (is_number<X>)
    return x <= low ? Y(0) : at_least(y, Y(0));
  else
    return y.min((x - low) * std::numeric_limits<scalar_t<X>>::max()).max(scalar_t<X>(0));
}

// exp(x). Eigen 3 gives a denormal number even for -infinity; here it is 0 from about the logarithm of the smallest
// normal number down.
template <class X>
RONDO_ANYWHERE auto exponential(const X& x) {
  using std::exp;
  if constexpr (is_number<X>)
    return exp(x);
  else
    return zero_below(exp(x), x, sizeof(scalar_t<X>) == 4 ? -87.33 : -708);
}

// Phi(x), the chance that a normal number is below x. In f32 (Phi(x) - 1/2) / x as a rational function of x^2, fitted
// on |x| < 5.7 with an error of 1.2e-8 in Phi, and 0 or 1 beyond: Eigen's own erf is not in all its packages, and a
// GPU's takes longer than the memory around it.
template <class X>
RONDO_ANYWHERE plain_t<X> normal_cdf(const X& x) {
  using T = scalar_t<X>;
  if constexpr (is_number<X> && sizeof(T) == 8) {
    using std::erfc;
    return T(0.5) * erfc(x * T(-0.70710678118654752));
  } else if constexpr (sizeof(T) == 8) {
    return x.unaryExpr([](T v) { return normal_cdf(v); });
  } else {
    constexpr T kEnd = 5.7f;
    const plain_t<X> s = at_most(at_least(x, -kEnd), kEnd);
    const plain_t<X> u = s * s;
    const plain_t<X> above =
        ((((2.15768991e-8f * u + 6.37326073e-6f) * u + 1.79371129e-4f) * u + 4.74069127e-3f) * u + 3.49397678e-2f) * u +
        3.98942206e-1f;
    const plain_t<X> below =
        ((((1.16479228e-6f * u + 7.67563285e-5f) * u + 1.94443352e-3f) * u + 2.92597541e-2f) * u + 2.54246485e-1f) * u +
        1.f;
    return zero_below(s * above / below + 0.5f, x, -kEnd);
  }
}

struct Exp {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    return exponential(x);
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X&, const X& y) const {
    return y;
  }
};

struct Log {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    using std::log;
    return log(x);
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X& x, const X&) const {
    return scalar_t<X>(1) / x;
  }
};

struct Tanh {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    using std::tanh;
    return tanh(x);
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X&, const X& y) const {
    return scalar_t<X>(1) - y * y;
  }
};

struct Sigmoid {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    using std::exp;
    using T = scalar_t<X>;
    return T(1) / (T(1) + exp(-x));  // exp may overflow to infinity: the result is then 0, as it should be
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X&, const X& y) const {
    return y * (scalar_t<X>(1) - y);
  }
};

struct Relu {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    return at_least(x, 0);
  }
  template <class D, class X>
  RONDO_ANYWHERE auto chain(const D& d, const X& x, const X&) const {
    return only_where(x > scalar_t<X>(0), d);
  }
};

struct Clamp {
  double low, high;
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    return at_most(at_least(x, scalar_t<X>(low)), scalar_t<X>(high));
  }
  template <class D, class X>
  RONDO_ANYWHERE auto chain(const D& d, const X& x, const X&) const {
    return only_where(x >= scalar_t<X>(low) && x <= scalar_t<X>(high), d);
  }
};

struct Gelu {  // x * Phi(x)
  template <class X>
  RONDO_ANYWHERE plain_t<X> value(const X& x) const {
    return x * normal_cdf(x);
  }
  template <class X>
  RONDO_ANYWHERE plain_t<X> slope(const X& x, const X&) const {
    return slope_at(x, normal_cdf(x));
  }
  // The slope where cdf = Phi(x) is known.
  template <class X, class C>
  RONDO_ANYWHERE static plain_t<X> slope_at(const X& x, const C& cdf) {
    using T = scalar_t<X>;
    return cdf + x * exponential(x * x * T(-0.5)) * T(0.39894228040143268);
  }
};

struct Silu {  // x * sigmoid(x)
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    using std::exp;
    return x / (scalar_t<X>(1) + exp(-x));
  }
  template <class X>
  RONDO_ANYWHERE plain_t<X> slope(const X& x, const X&) const {
    using T = scalar_t<X>;
    const plain_t<X> s = Sigmoid().value(x);
    return s * (T(1) + x * (T(1) - s));
  }
};

struct Softplus {  // log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)): no large number in between, no small one lost
  template <class X>
  RONDO_ANYWHERE plain_t<X> value(const X& x) const {
    using std::abs;
    using std::log1p;
    return at_least(x, 0) + log1p(exponential(-abs(x)));
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X& x, const X&) const {
    return Sigmoid().value(x);
  }
};

struct Sqrt {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    if constexpr (is_number<X>)
      return std::sqrt(x);
    else  // Eigen 3's own gives a wrong number for infinity
      return x.unaryExpr([](scalar_t<X> v) { return std::sqrt(v); });
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X&, const X& y) const {
    return scalar_t<X>(0.5) / y;
  }
};

struct Abs {
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    using std::abs;
    return abs(x);
  }
  template <class D, class X>
  RONDO_ANYWHERE plain_t<D> chain(const D& d, const X& x, const X&) const {
    return only_where(x > scalar_t<X>(0), d) - only_where(x < scalar_t<X>(0), d);
  }
};

struct Scale {
  double factor;
  template <class X>
  RONDO_ANYWHERE auto value(const X& x) const {
    return x * scalar_t<X>(factor);
  }
  template <class X>
  RONDO_ANYWHERE auto slope(const X&, const X&) const {
    return scalar_t<X>(factor);
  }
};

// From the gradient by y to the one by x.
template <class F, class D, class X>
RONDO_ANYWHERE plain_t<D> chained(const F& f, const D& d, const X& x, const X& y) {
  if constexpr (requires { f.chain(d, x, y); })
    return f.chain(d, x, y);
  else
    return d * f.slope(x, y);
}

using Unary = std::variant<Exp, Log, Tanh, Sigmoid, Relu, Clamp, Gelu, Silu, Softplus, Sqrt, Abs, Scale>;

// The larger and the smaller of two numbers, NaN where one is NaN.
template <class T>
RONDO_ANYWHERE T larger(T a, T b) {
  return ((a < b) | (b != b)) ? b : a;
}
template <class T>
RONDO_ANYWHERE T smaller(T a, T b) {
  return ((b < a) | (b != b)) ? b : a;
}
// The slope of the larger one by a; and what of a gradient d passes such a slope: nothing where that is 0, also of an
// infinite one.
template <class T>
RONDO_ANYWHERE T above(T a, T b) {
  return a < b ? T(0) : a == b ? T(0.5) : T(1);
}
template <class T>
RONDO_ANYWHERE T passed(T d, T slope) {
  return slope == T(0) ? T(0) : d * slope;
}
// Whether a comes before b as the largest: NaN before all.
template <class T>
RONDO_ANYWHERE bool beats(T a, T b) {
  return (a > b) | ((a != a) & (b == b));
}

// Of a and b. NaN equals nothing, and is neither less nor more.
enum class Relation { equal, not_equal, less, less_equal };
template <class T>
RONDO_ANYWHERE bool holds(Relation how, T a, T b) {
  switch (how) {
    case Relation::equal:
      return a == b;
    case Relation::not_equal:
      return a != b;
    case Relation::less:
      return a < b;
    case Relation::less_equal:
      return a <= b;
  }
  return false;
}

enum class Binary { add, sub, mul, div, larger, smaller, above, passed };

}  // namespace rondo
