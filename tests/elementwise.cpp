// Elementwise ops against plain loops, differences and closed forms.
#include <functional>
#include <limits>

#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

using Two = Tensor (*)(const Tensor&, const Tensor&);
using One = Tensor (*)(const Tensor&);

struct NamedTwo {
  const char* name;
  Two op;
  std::function<double(double, double)> number;
};
const NamedTwo kTwo[] = {{"add", add, std::plus<>()},
                         {"sub", sub, std::minus<>()},
                         {"mul", mul, std::multiplies<>()},
                         {"div", div, std::divides<>()},
                         {"maximum", maximum, [](double a, double b) { return std::max(a, b); }},
                         {"minimum", minimum, [](double a, double b) { return std::min(a, b); }}};

struct NamedOne {
  const char* name;
  One op;
  double (*number)(double);
};
const NamedOne kOne[] = {
    {"exp", exp, [](double x) { return std::exp(x); }},
    {"log", log, [](double x) { return std::log(x); }},
    {"tanh", tanh, [](double x) { return std::tanh(x); }},
    {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }},
    {"relu", relu, [](double x) { return x > 0 ? x : 0; }},
    {"gelu", gelu, [](double x) { return x * 0.5 * std::erfc(-x * 0.70710678118654752); }},
    {"silu", silu, [](double x) { return x / (1 + std::exp(-x)); }},
    {"softplus", softplus, [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }},
    {"abs", abs, [](double x) { return std::abs(x); }},
};

// Away from the kink of relu, the poles of div and, where asked, the negative numbers.
Tensor points(const Shape& shape, uint64_t seed, bool positive = false) {
  const Tensor t = randn(shape, DType::f64, seed);
  double* p = t.data<double>();
  for (int64_t i = 0; i < t.numel(); ++i) {
    p[i] += p[i] < 0 ? -0.3 : 0.3;
    if (positive) p[i] = std::abs(p[i]);
  }
  return t;
}

Tensor points_for(const char* name, const Shape& shape, uint64_t seed) {
  return points(shape, seed, std::string(name) == "log" || std::string(name) == "sqrt");
}

struct Pair {
  Shape a, b, y;
};
const Pair kPairs[] = {{{3, 5}, {3, 5}, {3, 5}},
                       {{}, {}, {}},
                       {{3, 5}, {5}, {3, 5}},
                       {{5}, {3, 5}, {3, 5}},
                       {{3, 1}, {1, 5}, {3, 5}},
                       {{3, 5}, {}, {3, 5}},
                       {{1, 1, 7}, {3, 5, 1}, {3, 5, 7}},
                       {{2, 3, 4, 5}, {3, 1, 5}, {2, 3, 4, 5}},
                       {{2, 1, 2, 1, 3}, {1, 3, 1, 2, 1}, {2, 3, 2, 2, 3}},
                       {{1, 2, 1, 2, 1, 2}, {2, 1, 2, 1, 2, 1}, {2, 2, 2, 2, 2, 2}},
                       {{4, 1}, {4, 0}, {4, 0}},
                       {{0}, {1}, {0}}};

// The element of t that broadcasting to `shape` puts at a place counted row by row.
double at(const Tensor& t, const Shape& shape, int64_t place) {
  int64_t index = 0, stride = 1;
  for (int i = 1; i <= shape.rank(); ++i) {
    const int64_t here = place % shape[-i];
    place /= shape[-i];
    if (i > t.rank()) continue;
    index += (t.dim(-i) == 1 ? 0 : here) * stride;
    stride *= t.dim(-i);
  }
  return values(t)[size_t(index)];
}

}  // namespace

TEST_CASE("binary ops: a loop over the elements, every way of broadcasting") {
  for (const NamedTwo& op : kTwo)
    for (const Pair& p : kPairs) {
      CAPTURE(op.name);
      const Tensor a = points(p.a, 1), b = points(p.b, 2), y = op.op(a, b);
      REQUIRE(y.shape() == p.y);
      for (int64_t i = 0; i < y.numel(); ++i) CHECK(y.data<double>()[i] == op.number(at(a, p.y, i), at(b, p.y, i)));
      CHECK(max_abs_diff(op.op(to(a, DType::f32), to(b, DType::f32)), y) <= 4e-6);  // of quotients up to 10
    }
}

TEST_CASE("binary ops: gradients, also of repeated inputs") {
  for (const NamedTwo& op : kTwo)
    for (const Pair& p : kPairs) {
      CAPTURE(op.name);
      gradcheck([&](const std::vector<Tensor>& in) { return op.op(in[0], in[1]); }, {points(p.a, 3), points(p.b, 4)},
                1e-7, 1e-4);
    }
}

TEST_CASE("binary ops: an input used twice, and one that is a constant") {
  const Tensor constant = points({5}, 6);
  for (const NamedTwo& op : kTwo) {
    CAPTURE(op.name);
    gradcheck([&](const std::vector<Tensor>& in) { return op.op(in[0], in[0]); }, {points({3, 5}, 5)});
    gradcheck([&](const std::vector<Tensor>& in) { return op.op(in[0], to(constant, in[0].device())); },
              {points({3, 5}, 5)});
    gradcheck([&](const std::vector<Tensor>& in) { return op.op(to(constant, in[0].device()), in[0]); },
              {points({3, 5}, 5)}, 1e-7, 1e-4);
  }
}

TEST_CASE("binary ops: many short rows of every width, one operand or both repeated") {
  for (const int64_t width : {2, 7, 16, 17, 48, 49, 64, 128, 129})
    for (const DType dtype : {DType::f64, DType::f32}) {
      const int64_t n = 40000 / width + 3;
      const Shape shape = {n, width}, kinds[] = {shape, {width}, {n, 1}, {}};
      for (const Shape& of_a : kinds)
        for (const Shape& of_b : kinds) {
          const Tensor a = to(points(of_a, 1), dtype), b = to(points(of_b, 2), dtype), y = a - b;
          const auto number = [&](const std::vector<double>& all, const Tensor& t, int64_t i, int64_t j) {
            return all[size_t(t.rank() == 2 ? (t.dim(1) == 1 ? i : i * width + j) : t.rank() == 1 ? j : 0)];
          };
          const std::vector<double> as = values(a), bs = values(b), ys = values(y);
          const int64_t height = y.rank() == 2 ? n : 1, across = y.rank() > 0 && y.dim(-1) > 1 ? width : 1;
          size_t wrong = 0;
          for (int64_t i = 0; i < height; ++i)
            for (int64_t j = 0; j < across; ++j) {
              const double d = number(as, a, i, j) - number(bs, b, i, j);
              wrong += ys[size_t(i * across + j)] != (dtype == DType::f32 ? double(float(d)) : d);
            }
          CHECK_MESSAGE(wrong == 0, dtype, " ", of_a, " - ", of_b);
        }
    }
}

TEST_CASE("maximum and minimum: with a number") {
  const Tensor x = points({3, 5}, 9);
  CHECK(same_bits(maximum(x, 0), relu(x)));
  CHECK(error_of([] { maximum({}, 0); }) == "maximum: a is missing");
  CHECK(error_of([] { minimum(arange(3), 1.5); }) == "minimum: a is i64, but the op computes in f32 or f64");
  CHECK(same_bits(minimum(x, 0.25), clamp(x, -100, 0.25)));
  gradcheck([](const std::vector<Tensor>& in) { return maximum(in[0], 0.1) + minimum(in[0], -1); }, {x});
}

TEST_CASE("binary ops: more than one tile, the same bits on any number of threads") {
  const std::pair<Shape, Shape> pairs[] = {
      {{50001}, {50001}}, {{40000}, {}}, {{300, 201}, {201}}, {{300, 201}, {300, 1}}, {{2, 40000}, {2, 1}}};
  for (const NamedTwo& op : kTwo)
    for (const auto& [a, b] : pairs) {
      CAPTURE(op.name);
      const Op f = [&](const std::vector<Tensor>& in) { return op.op(in[0], in[1]); };
      const Tensor x = points(a, 7), y = points(b, 8), z = f({x, y});
      for (int64_t i : {int64_t(0), a.numel() / 2, a.numel() - 1})
        CHECK(z.data<double>()[i] == op.number(at(x, a, i), at(y, a, i)));
      check_same_bits_on_threads(f, {to(x, DType::f32), to(y, DType::f32)});
    }
}

TEST_CASE("curves: the numbers of the standard library") {
  for (const NamedOne& op : kOne)
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{33}, Shape{3, 1000}, Shape{0}, Shape{2, 0, 3}}) {
      CAPTURE(op.name);
      const Tensor x = points_for(op.name, shape, 9), y = op.op(x);
      REQUIRE(y.shape() == shape);
      const Tensor x32 = to(x, DType::f32), y32 = op.op(x32);
      for (int64_t i = 0; i < x.numel(); ++i) {
        const double expected = op.number(x.data<double>()[i]), rounded = op.number(x32.data<float>()[i]);
        CHECK(std::abs(y.data<double>()[i] - expected) <= 1e-15 * std::max(1.0, std::abs(expected)));
        // 3 units in the last place: one each for the exponential or quotient, the product and the sum.
        CHECK(std::abs(y32.data<float>()[i] - rounded) <= 3.6e-7 * std::max(1.0, std::abs(rounded)));
      }
    }
}

TEST_CASE("curves: gradients") {
  for (const NamedOne& op : kOne)
    for (const Shape& shape : {Shape{}, Shape{7, 5}, Shape{33}, Shape{0}}) {
      CAPTURE(op.name);
      const Op f = [&](const std::vector<Tensor>& in) { return op.op(in[0]); };
      const bool is_log = std::string(op.name) == "log";
      gradcheck(f, {points_for(op.name, shape, 10)}, 1e-7, is_log ? 1e-4 : 1e-5);
      check_f32_against_f64(f, {points_for(op.name, {1000}, 11)}, 1e-6);
      check_same_bits_on_threads(f, {to(points_for(op.name, {50001}, 12), DType::f32)});
    }
  gradcheck([](const std::vector<Tensor>& in) { return scale(in[0], -2.5); }, {points({3, 5}, 13)});
  gradcheck([](const std::vector<Tensor>& in) { return -(0.5 * in[0]); }, {points({33}, 14)});
}

TEST_CASE_TEMPLATE("curves: values and slopes at the extremes", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN(), big = T(1e30);
  const T huge = T(1000);
  const auto check = [](One op, const std::vector<T>& in, const std::vector<T>& y, const std::vector<T>& slope) {
    for (size_t times : {1, 9}) {  // alone, and as a whole row of lanes
      std::vector<T> many;
      for (size_t k = 0; k < times; ++k) many.insert(many.end(), in.begin(), in.end());
      const Tensor x = parameter(tensor<T>(many, {int64_t(many.size())}));
      Tape tape;
      const Tensor found = op(x);
      const Gradients grads = tape.backward(sum(found));
      for (size_t i = 0; i < many.size(); ++i) {
        const T value = found.data<T>()[i], dx = grads[x].template data<T>()[i];
        const T expected = y[i % in.size()], expected_dx = slope[i % in.size()];
        CHECK_MESSAGE((value == expected || (std::isnan(value) && std::isnan(expected))), "x = ", many[i]);
        CHECK_MESSAGE((dx == expected_dx || (std::isnan(dx) && std::isnan(expected_dx))), "slope at x = ", many[i]);
      }
    }
  };
  check(exp, {-inf, -huge, 0, huge, inf, nan}, {0, 0, 1, inf, inf, nan}, {0, 0, 1, inf, inf, nan});
  check(log, {0, 1, inf, nan}, {-inf, 0, inf, nan}, {inf, 1, 0, nan});
  check(tanh, {-inf, -huge, 0, huge, inf, nan}, {-1, -1, 0, 1, 1, nan}, {0, 0, 1, 0, 0, nan});
  check(sigmoid, {-inf, -huge, 0, huge, inf, nan}, {0, 0, T(0.5), 1, 1, nan}, {0, 0, T(0.25), 0, 0, nan});
  check(relu, {-inf, -huge, 0, huge, inf, nan}, {0, 0, 0, huge, inf, nan}, {0, 0, 0, 1, 1, 0});
  check(silu, {-big, -huge, 0, huge, big, inf, nan}, {0, 0, 0, huge, big, inf, nan}, {0, 0, T(0.5), 1, 1, nan, nan});
  check(softplus, {-inf, -huge, 0, huge, inf, nan}, {0, 0, std::log(T(2)), huge, inf, nan}, {0, 0, T(0.5), 1, 1, nan});
  check(sqrt, {-1, 0, 4, inf, nan}, {nan, 0, 2, inf, nan}, {nan, inf, T(0.25), 0, nan});
  check(abs, {-inf, -huge, 0, huge, inf, nan}, {inf, huge, 0, huge, inf, nan}, {-1, -1, 0, 1, 1, 0});
  check(gelu, {-big, -huge, 0, huge, big, nan}, {0, 0, 0, huge, big, nan}, {0, 0, T(0.5), 1, 1, nan});
}

TEST_CASE_TEMPLATE("softplus: small results keep their digits", T, float, double) {
  std::vector<T> in;
  for (int i = 0; i < 400; ++i) in.push_back(T(-i) / 4 + T(13));
  const double eps = sizeof(T) == 4 ? 6e-8 : 1.2e-16;
  for (Device device : devices()) {
    const Tensor x = to(tensor(in, {int64_t(in.size())}), device);
    const std::vector<double> found = values(softplus(x));
    for (size_t i = 0; i < in.size(); ++i) {
      const double v = double(in[i]), e = std::exp(v);
      if (v < -86) continue;  // exp(x) is nearly no normal f32 there
      CHECK_MESSAGE(std::abs(found[i] - std::log1p(e)) <= 8 * eps * std::log1p(e), "x = ", v, " on ", device);
    }
    CHECK(values(exp(to(tensor(std::vector<T>(40, T(-87)), {40}), device)))[3] > 1.6e-38);
  }
}

TEST_CASE_TEMPLATE("maximum and minimum: equal numbers, infinities, NaN", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> as{1, 2, 2, -inf, inf, nan, 1, nan}, bs{2, 1, 2, 0, inf, 1, nan, nan};
  const auto check = [&](Two op, const std::vector<T>& y, const std::vector<T>& da, const std::vector<T>& db) {
    for (Device device : devices()) {
      const Tensor a = parameter(to(tensor<T>(as, {8}), device)), b = parameter(to(tensor<T>(bs, {8}), device));
      Tape tape;
      const Tensor found = op(a, b);
      const Gradients grads = tape.backward(sum(found * to(tensor<T>({1, 2, 3, 4, 5, 6, 7, 8}, {8}), device)));
      CHECK(max_abs_diff(to(found, Device::cpu), tensor<T>(y, {8})) == 0);
      CHECK(max_abs_diff(to(grads[a], Device::cpu), tensor<T>(da, {8})) == 0);
      CHECK(max_abs_diff(to(grads[b], Device::cpu), tensor<T>(db, {8})) == 0);
    }
  };
  // As PyTorch has it, also the gradients beside a NaN.
  check(maximum, {2, 2, 2, 0, inf, nan, nan, nan}, {0, 2, 1.5, 0, 2.5, 6, 7, 8}, {1, 0, 1.5, 4, 2.5, 6, 7, 8});
  check(minimum, {1, 1, 2, -inf, inf, nan, nan, nan}, {1, 0, 1.5, 4, 2.5, 6, 7, 8}, {0, 2, 1.5, 0, 2.5, 6, 7, 8});
}

TEST_CASE("what a kink shuts out has no gradient, also of an infinite one") {
  for (Device device : devices())
    for (DType d : {DType::f32, DType::f64})
      for (int64_t n : {1, 40}) {
        const auto slope = [&](double x, auto&& f) {
          const Tensor t = parameter(to(to(full({n}, x, DType::f64), d), device));
          Tape tape;
          return values(tape.backward(sum(sqrt(f(t))))[t])[size_t(n - 1)];
        };
        const auto zero = [&](const Tensor& t) { return full({}, 0, t.dtype(), t.device()); };
        CHECK(slope(-1, [](const Tensor& t) { return relu(t); }) == 0);
        CHECK(slope(-1, [](const Tensor& t) { return clamp(t, 0, 9); }) == 0);
        CHECK(slope(-1, [&](const Tensor& t) { return maximum(t, zero(t)); }) == 0);
        CHECK(slope(-1, [&](const Tensor& t) { return maximum(zero(t), t); }) == 0);
        CHECK(slope(-1, [&](const Tensor& t) { return -minimum(-t, zero(t)); }) == 0);
        CHECK(slope(4, [](const Tensor& t) { return relu(t); }) == 0.25);
        CHECK(slope(4, [](const Tensor& t) { return clamp(t, 0, 9); }) == 0.25);
        CHECK(slope(4, [](const Tensor& t) { return clamp(t, 4, 9); }) == 0.25);
        CHECK(slope(4, [](const Tensor& t) { return clamp(t, 0, 4); }) == 0.25);
        CHECK(slope(4, [](const Tensor& t) { return clamp(t, 0, 3.5); }) == 0);
      }
}

TEST_CASE("clamp") {
  const Tensor x = points({4, 9}, 18), y = clamp(x, -0.5, 0.75);
  for (size_t i = 0; i < 36; ++i) CHECK(values(y)[i] == std::clamp(values(x)[i], -0.5, 0.75));
  gradcheck([](auto& in) { return clamp(in[0], -0.5, 0.75); }, {x});
  check_f32_against_f64([](auto& in) { return clamp(in[0], -0.5, 0.75); }, {points({1000}, 19)}, 1e-7);
  check_same_bits_on_threads([](auto& in) { return clamp(in[0], -0.5, 0.75); }, {to(points({50001}, 20), DType::f32)});
  CHECK(clamp(Tensor({2, 0}), 0, 1).shape() == Shape{2, 0});
  CHECK(std::isnan(clamp(full({}, NAN), 0, 1).item()));
  CHECK(error_of([&] { clamp(x, 1, 0); }) == "clamp: low is 1, but high is 0");
  CHECK(error_of([&] { clamp({}, 0, 1); }) == "clamp: x is missing");
  CHECK(error_of([&] { clamp(to(x, DType::bf16), 0, 1); }) ==
        "clamp: x is bf16, but the op computes in f32 or f64; cast(x, DType::f32) makes it f32");
}

TEST_CASE("gelu: f32 all along, and far out") {
  std::vector<float> x;
  for (double v = -12; v <= 12; v += 1.0 / 512) x.push_back(float(v));
  const Tensor t = parameter(tensor(x, {int64_t(x.size())}));
  Tape tape;
  const Tensor y = gelu(t), slope = tape.backward(sum(y))[t];
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i], cdf = 0.5 * std::erfc(-v * 0.70710678118654752);
    const double d = cdf + v * std::exp(-v * v / 2) * 0.39894228040143268;
    // Phi is good to 2 units in the last place of 1, and the slope has one more term of that size.
    CHECK(std::abs(y.data<float>()[i] - v * cdf) <= 2.4e-7 * std::abs(v));
    CHECK(std::abs(slope.data<float>()[i] - d) <= 3.6e-7);
  }
}

TEST_CASE("a rule keeps what it needs and no more") {
  const auto users = [](const Tensor& t) { return int(t.record()->references); };
  const Tensor x = parameter(points({3}, 15, true)), constant = points({3}, 16);
  Tape tape;
  const Tensor product = x * constant;
  CHECK(users(x) == 2);  // as a leaf of the tape alone: its own elements are not needed
  CHECK(users(constant) == 2);
  const Tensor total = x + product, y = exp(total), curved = gelu(y);
  CHECK(users(total) == 1);
  CHECK(users(y) == 3);  // kept by exp for its result and by gelu for its argument
  CHECK(users(curved) == 1);
  CHECK(users(scale(curved, 2)) == 1);
  CHECK(users(curved) == 1);
}

TEST_CASE("operators: tensors and numbers") {
  const Tensor x = points({2, 3}, 17);
  const std::vector<double> v = values(x);
  const auto is = [&](const Tensor& y, auto&& f) {
    for (size_t i = 0; i < v.size(); ++i) CHECK(values(y)[i] == doctest::Approx(f(v[i])).epsilon(1e-15));
  };
  is(x * 3, [](double a) { return a * 3; });
  is(3 * x, [](double a) { return a * 3; });
  is(x / 4, [](double a) { return a / 4; });
  is(2 / x, [](double a) { return 2 / a; });
  is(x + 1.5, [](double a) { return a + 1.5; });
  is(1.5 + x, [](double a) { return a + 1.5; });
  is(x - 1, [](double a) { return a - 1; });
  is(1 - x, [](double a) { return 1 - a; });
  is(-x, [](double a) { return -a; });
  gradcheck([](auto& in) { return (1 - in[0] * 3) / 4 + 1.5 - (2 - in[0]) + 1 / in[0]; }, {x}, 1e-7, 1e-4);
}

TEST_CASE("elementwise: errors") {
  const Tensor x({2, 3}), ints({2, 3}, DType::i64), wide({2, 3}, DType::f64), half({2, 3}, DType::bf16);
  for (const NamedTwo& op : kTwo) {
    const std::string name = op.name;
    CHECK(error_of([&] { op.op(x, Tensor({4})); }) ==
          name + ": a has shape (2, 3), but b has shape (4), and these do not broadcast");
    CHECK(error_of([&] { op.op(x, wide); }) == name + ": b is f64, but a is f32");
    CHECK(error_of([&] { op.op(ints, ints); }) == name + ": a is i64, but the op computes in f32 or f64");
    CHECK(error_of([&] { op.op(x, {}); }) == name + ": b is missing");
    CHECK(error_of([&] { op.op({}, x); }) == name + ": a is missing");
  }
  for (const NamedOne& op : kOne) {
    const std::string name = op.name;
    CHECK(error_of([&] { op.op(half); }) ==
          name + ": x is bf16, but the op computes in f32 or f64; cast(x, DType::f32) makes it f32");
    CHECK(error_of([&] { op.op({}); }) == name + ": x is missing");
  }
  CHECK(error_of([&] { scale(ints, 2); }) == "scale: x is i64, but the op computes in f32 or f64");
}
