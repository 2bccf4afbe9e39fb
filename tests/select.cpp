// Choosing along an axis, against plain loops and differences.
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

}  // namespace

TEST_CASE("argmax and max: a loop over each line") {
  for (const Case& c : kCases) {
    CAPTURE(c.x);
    const Tensor x = randn(c.x, DType::f64, 3);
    for (DType d : {DType::f64, DType::f32})
      for (Device device : devices()) {
        const Tensor there = to(to(x, d), device), index = to(argmax(there, c.axis), Device::cpu);
        REQUIRE(index.shape() == c.y);
        for (int64_t line = 0; line < index.numel(); ++line) {
          int64_t best = 0;
          const auto at = [&](int64_t j) { return x.data<double>()[place_of(c, line, j)]; };
          for (int64_t j = 1; j < c.x[c.axis]; ++j) best = at(j) > at(best) ? j : best;
          CHECK(index.data<int64_t>()[line] == best);
          CHECK(values(max(there, c.axis))[size_t(line)] == values(to(x, d))[size_t(place_of(c, line, best))]);
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
