// Comparing and choosing, against plain loops and differences.
#include <functional>
#include <limits>

#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

struct Case {
  Shape x;
  int axis;
  Shape y;
};
const Case kCases[] = {{{7}, 0, {}},           {{3, 5}, 1, {3}},        {{3, 5}, 0, {5}},   {{3, 5}, -2, {5}},
                       {{2, 3, 4}, 1, {2, 4}}, {{2, 70, 3}, 1, {2, 3}}, {{4, 33}, -1, {4}}, {{1, 1}, 1, {1}},
                       {{300, 257}, 1, {300}}, {{257, 300}, 0, {300}},  {{0, 5}, 1, {0}},   {{2, 3, 0}, 1, {2, 0}},
                       {{5, 1}, 0, {1}},       {{2, 40000}, 1, {2}}};

// The place in x of element j of a line, the lines counted row by row without the axis.
int64_t place_of(const Case& c, int64_t line, int64_t j) {
  const int axis = c.axis < 0 ? c.axis + c.x.rank() : c.axis;
  int64_t inner = 1;
  for (int i = axis + 1; i < c.x.rank(); ++i) inner *= c.x[i];
  return (line / inner * c.x[axis] + j) * inner + line % inner;
}

Tensor random_index(const Case& c) {
  Tensor index(c.y, DType::i64);
  Generator g{5, 3, 0};
  for (int64_t i = 0; i < index.numel(); ++i) index.data<int64_t>()[i] = g.below(c.x[c.axis]);
  return index;
}

Op picked(const Tensor& index, int axis) {
  return [=](const std::vector<Tensor>& in) { return pick(in[0], to(index, in[0].device()), axis); };
}

struct Three {
  Shape mask, a, b, y;
};
const Three kThrees[] = {{{3, 5}, {3, 5}, {3, 5}, {3, 5}},
                         {{}, {}, {}, {}},
                         {{3, 1}, {5}, {}, {3, 5}},
                         {{5}, {3, 5}, {3, 1}, {3, 5}},
                         {{}, {3, 1}, {1, 5}, {3, 5}},
                         {{2, 3, 4}, {4}, {3, 1}, {2, 3, 4}},
                         {{2, 1, 2, 1}, {3, 1, 2}, {1, 1, 1, 1}, {2, 3, 2, 2}},
                         {{20000}, {20000}, {}, {20000}},
                         {{4, 1}, {50}, {4, 50}, {4, 50}},
                         {{6000, 1}, {7}, {6000, 7}, {6000, 7}},
                         {{20}, {2000, 1}, {}, {2000, 20}},
                         {{300, 70}, {70}, {70}, {300, 70}},
                         {{40, 1}, {500}, {40, 500}, {40, 500}},
                         {{0}, {1}, {}, {0}},
                         {{2, 1}, {0}, {2, 0}, {2, 0}}};
const DType kAll[] = {DType::f64, DType::f32, DType::bf16, DType::i32, DType::i64, DType::u8, DType::i8};

// 0 to 3, so that some are equal.
Tensor few(const Shape& shape, DType dtype, uint64_t seed) {
  Tensor t(shape, DType::f64);
  Generator g{seed, 3, 0};
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = double(g.below(4));
  return to(t, dtype);
}
Tensor random_mask(const Shape& shape) { return less(few(shape, DType::i64, 8), 2); }
std::vector<double> repeated(const Tensor& t, const Shape& shape) { return values(broadcast_to(t, shape)); }

}  // namespace

TEST_CASE("comparisons: a loop over the elements, every dtype, every way of broadcasting") {
  using Two = Tensor (*)(const Tensor&, const Tensor&);
  const std::pair<Two, std::function<bool(double, double)>> relations[] = {
      {equal, std::equal_to<>()},        {not_equal, std::not_equal_to<>()}, {less, std::less<>()},
      {less_equal, std::less_equal<>()}, {greater, std::greater<>()},        {greater_equal, std::greater_equal<>()}};
  for (const Three& c : kThrees)
    for (DType dtype : kAll) {
      const Tensor a = few(c.a, dtype, 1), b = few(c.b, dtype, 2);
      const Shape shape = (zeros(c.a) + zeros(c.b)).shape();
      const std::vector<double> x = repeated(a, shape), y = repeated(b, shape);
      for (const auto& [op, number] : relations)
        for (Device device : devices()) {
          const Tensor mask = op(to(a, device), to(b, device));
          REQUIRE(mask.shape() == shape);
          CHECK(mask.dtype() == DType::u8);
          const std::vector<double> found = values(mask);
          size_t wrong = 0;
          for (size_t i = 0; i < found.size(); ++i) wrong += found[i] != double(number(x[i], y[i]));
          CHECK_MESSAGE(wrong == 0, dtype, " ", c.a, " ", c.b, " on ", device);
        }
    }
}

TEST_CASE("comparisons: of numbers, and of NaN and infinities") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (Device device : devices())
    for (DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const Tensor a = to(to(tensor<double>({nan, nan, 1, -inf, inf, -0.0}, {6}), dtype), device);
      const Tensor b = to(to(tensor<double>({nan, 1, nan, inf, inf, 0}, {6}), dtype), device);
      const auto is = [](const Tensor& t, const std::vector<double>& expected) {
        CHECK(max_abs_diff(to(to(t, Device::cpu), DType::f64), tensor(expected, t.shape())) == 0);
      };
      is(equal(a, b), {0, 0, 0, 0, 1, 1});
      is(not_equal(a, b), {1, 1, 1, 1, 0, 0});
      is(less(a, b), {0, 0, 0, 1, 0, 0});
      is(less_equal(a, b), {0, 0, 0, 1, 1, 1});
      is(greater(b, a), {0, 0, 0, 1, 0, 0});
      is(greater_equal(b, a), {0, 0, 0, 1, 1, 1});
      is(equal(a, 0), {0, 0, 0, 0, 0, 1});
      is(less(a, 1), {0, 0, 0, 1, 0, 1});
      is(greater(a, 0), {0, 0, 1, 0, 1, 0});
      is(not_equal(a, 0), {1, 1, 1, 1, 1, 0});
      is(less_equal(a, 1), {0, 0, 1, 1, 0, 1});
      is(greater_equal(a, 1), {0, 0, 1, 0, 1, 0});
      is(less(to(arange(4), device), 1.5), {1, 1, 0, 0});  // numbers that the dtype does not have
      is(less(to(arange(4, DType::u8), device), 300), {1, 1, 1, 1});
      is(equal(to(arange(3), device), 0.5), {0, 0, 0});
      is(where(to(tensor<uint8_t>({1, 0, 0, 1, 1, 0}, {6}), device), 2, b), {2, 1, nan, 2, 2, 0});
      is(where(to(tensor<uint8_t>({0, 0, 0, 1, 1, 1}, {6}), device), b, -inf), {-inf, -inf, -inf, inf, inf, 0});
      const Tensor big = to(tensor<int64_t>({(int64_t{1} << 53) + 1, -1}, {2}), device);  // no double is the first
      is(equal(big, to(tensor<int64_t>({int64_t{1} << 53, -1}, {2}), device)), {0, 1});
    }
}

TEST_CASE("where: a loop over the elements in every dtype, and where its gradient goes") {
  for (const Three& c : kThrees) {
    CAPTURE(c.y);
    const Tensor mask = random_mask(c.mask);
    const std::vector<double> chosen = repeated(mask, c.y);
    for (DType dtype : kAll)
      for (Device device : devices()) {
        const Tensor a = few(c.a, dtype, 4), b = few(c.b, dtype, 5);
        const Tensor y = where(to(mask, device), to(a, device), to(b, device));
        REQUIRE(y.shape() == c.y);
        CHECK(y.dtype() == dtype);
        const std::vector<double> as = repeated(a, c.y), bs = repeated(b, c.y), found = values(y);
        size_t wrong = 0;
        for (size_t i = 0; i < found.size(); ++i) wrong += found[i] != (chosen[i] != 0 ? as[i] : bs[i]);
        CHECK_MESSAGE(wrong == 0, dtype, " on ", device);
      }
    const Op op = [&](const std::vector<Tensor>& in) { return where(to(mask, in[0].device()), in[0], in[1]); };
    const Tensor a = randn(c.a, DType::f64, 6), b = randn(c.b, DType::f64, 7);
    check_f32_against_f64(op, {a, b}, 1e-6);
    check_same_bits_on_threads(op, {to(a, DType::f32), to(b, DType::f32)});
    if (a.numel() + b.numel() < 1000) gradcheck(op, {a, b});
  }
}

TEST_CASE("where: what is not chosen is not looked at; one input; masks of masks") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = parameter(tensor<float>({1, nan, 3}, {3})), mask = tensor<uint8_t>({1, 0, 7}, {3});
  Tape tape;
  const Tensor y = where(mask, x * x, full({}, 5));
  CHECK(values(y) == std::vector<double>{1, 5, 9});
  const Gradients grads = tape.backward(sum(where(mask, y, x)));
  CHECK(values(narrow(grads[x], 0, 0, 1)) == std::vector<double>{2});
  CHECK(values(narrow(grads[x], 0, 2, 1)) == std::vector<double>{6});
  Tape careful({.check_finite = true});  // what is masked on purpose is no mistake
  const Tensor masked = where(mask, parameter(randn({3})), -INFINITY);
  CHECK(error_of([&] { softmax(reshape(masked, {1, -1})); }) == "(no error)");
  CHECK(error_of([&] {
          where(mask, parameter(randn({3})), NAN);
        }).starts_with("where: the result of shape (3) is not finite"));
  CHECK(error_of([&] { masked * 2; }).starts_with("scale: the result of shape (3) is not finite"));
  const Tensor m = tensor<uint8_t>({0, 0, 1, 1}, {4}), n = tensor<uint8_t>({0, 1, 0, 1}, {4});
  CHECK(values(where(m, n, m)) == std::vector<double>{0, 0, 0, 1});
  CHECK(values(where(m, m, n)) == std::vector<double>{0, 1, 1, 1});
}

TEST_CASE("comparisons and where: errors") {
  const Tensor x = randn({2, 3}), y = randn({2}), mask = zeros({2, 3}, DType::u8);
  CHECK(error_of([&] { less(x, y); }) == "less: a has shape (2, 3), but b has shape (2), and these do not broadcast");
  CHECK(error_of([&] { equal(x, arange(3)); }) == "equal: b is i64, but a is f64");
  CHECK(error_of([&] { less_equal(x, {}); }) == "less_equal: b is missing");
  CHECK(error_of([&] { not_equal({}, x); }) == "not_equal: a is missing");
  CHECK(error_of([&] { greater(x, {}); }) == "greater: b is missing");
  CHECK(error_of([&] { greater_equal(x, to(x, DType::f32)); }) == "greater_equal: b is f32, but a is f64");
  CHECK(error_of([&] { greater(x, y); }) ==
        "greater: a has shape (2, 3), but b has shape (2), and these do not broadcast");
  CHECK(error_of([&] { equal(Tensor(), 1); }) == "equal: a is missing");
  CHECK(error_of([&] { where(x, x, x); }) ==
        "where: mask is f64, but masks are u8, as comparisons make them (equal, less, ...)");
  CHECK(error_of([&] { where({}, x, x); }) == "where: mask is missing");
  CHECK(error_of([&] { where(mask, 2, {}); }) == "where: b is missing");
  CHECK(error_of([&] { where(mask, {}, 2); }) == "where: a is missing");
  CHECK(error_of([&] { where(mask, x, {}); }) == "where: b is missing");
  CHECK(error_of([&] { where(mask, x, to(x, DType::f32)); }) == "where: b is f32, but a is f64");
  CHECK(error_of([&] { where(mask, x, y); }) ==
        "where: a has shape (2, 3), but b has shape (2), and these do not broadcast");
  CHECK(error_of([&] { where(zeros({4}, DType::u8), x, x); }) ==
        "where: mask has shape (4), but a and b together have (2, 3), and these do not broadcast");
  for (Device device : devices())
    if (device != Device::cpu)
      CHECK(error_of([&] { where(mask, to(x, device), to(x, device)); }) == "where: mask is on cpu, but a is on cuda");
}

TEST_CASE("argmax and max: a loop over each line") {
  for (const Case& c : kCases) {
    CAPTURE(c.x);
    const Tensor x = randn(c.x, DType::f64, 3);
    for (DType d : {DType::f64, DType::f32})
      for (Device device : devices()) {
        const Tensor there = to(to(x, d), device), index = to(argmax(there, c.axis), Device::cpu);
        REQUIRE(index.shape() == c.y);
        const std::vector<double> largest = values(max(there, c.axis)), xs = values(to(x, d));
        for (int64_t line = 0; line < index.numel(); ++line) {
          int64_t best = 0;
          const auto at = [&](int64_t j) { return x.data<double>()[place_of(c, line, j)]; };
          for (int64_t j = 1; j < c.x[c.axis]; ++j) best = at(j) > at(best) ? j : best;
          CHECK(index.data<int64_t>()[line] == best);
          CHECK(largest[size_t(line)] == xs[size_t(place_of(c, line, best))]);
        }
      }
    check_same_bits_on_threads([&](auto& in) { return max(in[0], c.axis); }, {to(x, DType::f32)});
  }
}

TEST_CASE("argmax: equal numbers, infinities, NaN") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> level(100, 1), late(100, 1), nans(100, inf);
  late[70] = late[99] = 2, nans[40] = nans[72] = nan;
  for (Device device : devices()) {
    const auto first = [&](const std::vector<double>& v) {
      const int64_t n = int64_t(v.size());
      const Tensor row = tensor(v, {n});
      const int64_t index = argmax(to(row, device)).to_vector<int64_t>()[0];
      for (int64_t width : {2, 300}) {  // the same as columns beside others, which do not matter
        const Tensor others = randn({n, width}, DType::f64, 6), mine = reshape(row, {n, 1});
        const Tensor columns = concat({others, mine, others, mine}, 1);
        for (DType d : {DType::f64, DType::f32}) {
          const std::vector<int64_t> found = argmax(to(to(columns, d), device), 0).to_vector<int64_t>();
          CHECK(found[size_t(width)] == index);
          CHECK(found.back() == index);
        }
      }
      return index;
    };
    CHECK(first(level) == 0);
    CHECK(first(late) == 70);
    CHECK(first(nans) == 40);
    CHECK(first({-inf, -inf}) == 0);
    CHECK(first({-inf, -1, inf, inf}) == 2);
    CHECK(first({nan, inf, nan}) == 0);
    CHECK(std::isnan(max(to(tensor<double>({1, nan, 2}, {3}), device), 0).item()));
  }
}

TEST_CASE("pick: a loop over each line, and where its gradient goes") {
  for (const Case& c : kCases) {
    CAPTURE(c.x);
    const Tensor x = randn(c.x, DType::f64, 4), index = random_index(c), w = randn(c.y, DType::f64, 99);
    const std::vector<Tensor> results = run(picked(index, c.axis), {x});
    Tensor y(c.y, DType::f64), dx = zeros_like(x);
    for (int64_t line = 0; line < y.numel(); ++line) {
      const int64_t place = place_of(c, line, index.data<int64_t>()[line]);
      y.data<double>()[line] = x.data<double>()[place];
      dx.data<double>()[place] = w.data<double>()[line];
    }
    CHECK(same_bits(results[0], y));
    CHECK(same_bits(results[1], dx));
    check_same_bits_on_threads(picked(index, c.axis), {to(x, DType::f32)});
    check_f32_against_f64(picked(index, c.axis), {x}, 1e-7);
    if (x.numel() < 1000) {
      gradcheck(picked(index, c.axis), {x});
      gradcheck([&](auto& in) { return max(in[0], c.axis); }, {x});
      gradcheck([&](auto& in) { return min(in[0], c.axis); }, {x});
    }
  }
}

TEST_CASE("choosing: errors") {
  const Tensor x = randn({2, 5}, DType::f32), index = tensor<int64_t>({0, 4}, {2});
  CHECK(error_of([&] { argmax({}); }) == "argmax: x is missing");
  CHECK(error_of([&] { argmax(index); }) == "argmax: x is i64, but the op computes in f32 or f64");
  CHECK(error_of([&] { argmax(x, 2); }) == "argmax: axis is 2, but x has shape (2, 5)");
  CHECK(error_of([&] { argmax(Tensor(Shape{2, 0})); }) == "argmax: axis -1 of x (2, 0) has no elements");
  CHECK(error_of([&] { max({}, 0); }) == "max: x is missing");
  CHECK(error_of([&] { max(x, 2); }) == "max: axis is 2, but x has shape (2, 5)");
  CHECK(error_of([&] { min(index, 0); }) == "min: x is i64, but the op computes in f32 or f64");
  CHECK(error_of([&] { min(Tensor(Shape{2, 0}), 1); }) == "min: axis 1 of x (2, 0) has no elements");
  CHECK(error_of([&] { pick({}, index); }) == "pick: x is missing");
  CHECK(error_of([&] { pick(x, {}); }) == "pick: index is missing");
  CHECK(error_of([&] { pick(x, index, 0); }) == "pick: index has shape (2), but x (2, 5) without axis 0 is (5)");
  CHECK(error_of([&] { pick(x, x); }) ==
        "pick: index is f32, but indices are i64; to(tensor, DType::i64) makes them so");
  CHECK(error_of([&] { pick(Tensor(Shape{2, 0}), index); }) == "pick: axis -1 of x (2, 0) has no elements");
  for (Device device : devices()) {  // an index that comes from the CPU is looked at
    CHECK(error_of([&] {
            pick(to(x, device), tensor<int64_t>({4, 5}, {2}));
          }) == "pick: index holds 5 at index 1, but axis -1 of x (2, 5) has 5 elements");
    CHECK(error_of([&] {
            pick(to(x, device), tensor<int64_t>({-1, 4}, {2}));
          }) == "pick: index holds -1 at index 0, but axis -1 of x (2, 5) has 5 elements");
  }
}
