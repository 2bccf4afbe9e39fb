// Ops that only move elements, against the indices they promise.
#include <limits>

#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

// 0, 1, 2, ..., and again from 0 where the dtype ends.
Tensor counted(const Shape& shape, DType dtype = DType::f64) {
  const Tensor t(shape, DType::f64);
  const int64_t n = dtype == DType::u8 || dtype == DType::i8 ? 127 : t.numel();
  for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] = double(i % n);
  return to(t, dtype);
}

std::vector<int64_t> index_of(int64_t place, const Shape& shape) {
  std::vector<int64_t> index(size_t(shape.rank()));
  for (int i = shape.rank() - 1; i >= 0; place /= shape[i--]) index[size_t(i)] = place % shape[i];
  return index;
}

// The element of t at an index; dimensions of size 1 and missing ones in front are repeated.
double at(const Tensor& t, const std::vector<int64_t>& index) {
  int64_t place = 0;
  for (int i = 0; i < t.rank(); ++i)
    place = place * t.dim(i) + (t.dim(i) == 1 ? 0 : index[index.size() - size_t(t.rank() - i)]);
  return values(t.view({t.numel()}))[size_t(place)];
}

struct Permutation {
  Shape shape;
  std::vector<int> axes;
};
const Permutation kPermutations[] = {{{}, {}},
                                     {{5}, {0}},
                                     {{3, 5}, {1, 0}},
                                     {{3, 5}, {-1, -2}},
                                     {{2, 3, 4}, {0, 2, 1}},
                                     {{2, 3, 4}, {2, 0, 1}},
                                     {{2, 3, 4}, {2, 1, 0}},
                                     {{2, 3, 4}, {1, 0, 2}},
                                     {{2, 5, 3, 4}, {0, 2, 1, 3}},
                                     {{2, 3, 1, 2, 3, 2}, {5, 3, 1, 0, 2, 4}},
                                     {{33, 67}, {1, 0}},
                                     {{3, 0, 2}, {2, 1, 0}}};

Op permuted(const std::vector<int>& axes) {
  return [axes](const std::vector<Tensor>& in) { return permute(in[0], axes); };
}

}  // namespace

TEST_CASE("permute: every element is where its index says, in every dtype") {
  for (const Permutation& p : kPermutations)
    for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i32, DType::i64, DType::u8, DType::i8}) {
      const Tensor x = counted(p.shape, dtype), y = permute(x, p.axes);
      const std::vector<double> in = values(x), out = values(y);
      REQUIRE(y.dtype() == dtype);
      for (int64_t i = 0; i < y.numel(); ++i) {
        const std::vector<int64_t> to = index_of(i, y.shape());
        int64_t place = 0;
        for (int k = 0; k < x.rank(); ++k)
          for (size_t j = 0; j < to.size(); ++j)
            if ((p.axes[j] + x.rank()) % x.rank() == k) place = place * x.dim(k) + to[j];
        CHECK(out[size_t(i)] == in[size_t(place)]);
      }
    }
}

TEST_CASE("permute: back again, and the same bits on any number of threads") {
  const Tensor x = randn({40, 70, 33}, DType::f32);
  const std::pair<std::vector<int>, std::vector<int>> both_ways[] = {
      {{0, 2, 1}, {0, 2, 1}}, {{2, 1, 0}, {2, 1, 0}}, {{1, 2, 0}, {2, 0, 1}}, {{1, 0, 2}, {1, 0, 2}}};
  for (const auto& [there, back] : both_ways) {
    CHECK(same_bits(permute(permute(x, there), back), x));
    check_same_bits_on_threads(permuted(there), {x});
  }
}

TEST_CASE("transpose: two dimensions change places") {
  const Tensor x = counted({2, 3, 4, 5});
  CHECK(same_bits(transpose(x), permute(x, {0, 1, 3, 2})));
  CHECK(same_bits(transpose(x, 1, -2), permute(x, {0, 2, 1, 3})));
  CHECK(same_bits(transpose(x, 3, 0), permute(x, {3, 1, 2, 0})));
  CHECK(same_bits(transpose(x, 1, 1), x));
  gradcheck([](const std::vector<Tensor>& in) { return transpose(in[0], 0); }, {randn({3, 2, 4})});
  CHECK(error_of([&] { transpose(counted({3})); }) == "transpose: a is -2, but x has shape (3)");
  CHECK(error_of([&] { transpose(x, 0, 4); }) == "transpose: b is 4, but x has shape (2, 3, 4, 5)");
  CHECK(error_of([] { transpose({}); }) == "transpose: x is missing");
}

TEST_CASE("permute and reshape: gradients") {
  for (const Permutation& p : kPermutations) gradcheck(permuted(p.axes), {randn(p.shape)});
  gradcheck([](const std::vector<Tensor>& in) { return reshape(in[0], {5, 1, 3}); }, {randn({3, 5})});
  gradcheck([](const std::vector<Tensor>& in) { return reshape(in[0], {}); }, {randn({1, 1})});
  gradcheck([](const std::vector<Tensor>& in) { return reshape(in[0], {0, 7}); }, {randn({3, 0})});
  gradcheck([](const std::vector<Tensor>& in) { return reshape(in[0], {5, -1}); }, {randn({3, 10})});
}

TEST_CASE("reshape: -1 is what is left") {
  const Tensor x = counted({2, 3, 4});
  CHECK(reshape(x, {-1}).shape() == Shape{24});
  CHECK(reshape(x, {6, -1}).shape() == Shape{6, 4});
  CHECK(reshape(x, {-1, 8, 1}).shape() == Shape{3, 8, 1});
  CHECK(reshape(x, {2, -1, 12}).shape() == Shape{2, 1, 12});
  CHECK(reshape(counted({0, 3}), {-1, 3}).shape() == Shape{0, 3});
  const int64_t rows = x.dim(0);
  CHECK(reshape(x, {rows, -1}).shape() == Shape{2, 12});
  CHECK(error_of([&] {
          reshape(x, {5, -1});
        }) == "reshape: x has shape (2, 3, 4) with 24 elements, but shape is {5, -1}, and 5 does not divide that");
  CHECK(error_of([&] { reshape(x, {0, -1}); }) == "reshape: shape is {0, -1}, but -1 could be anything beside a 0");
  const int64_t half = int64_t(1) << 32, most = std::numeric_limits<int64_t>::max();
  CHECK(error_of([&] {
          reshape(counted({0}), {half, half});
        }) == "reshape: a tensor of shape {4294967296, 4294967296} is larger than any memory");
  CHECK(error_of([&] { reshape(counted({3}), {most, most, -1}); }).ends_with("is larger than any memory"));
  CHECK(error_of([&] {
          reshape(counted({0}), Shape{half, half});
        }) == "reshape: a tensor of shape (4294967296, 4294967296) is larger than any memory");
  CHECK(error_of([&] {
          zeros({0}).view({half, half});
        }) == "view: a tensor of shape (4294967296, 4294967296) is larger than any memory");
  CHECK(error_of([&] {
          reshape(x, {-1, 2, -1});
        }) == "reshape: shape is {-1, 2, -1}, but dimensions are 0 or more, and one may be -1");
  CHECK(error_of([&] {
          reshape(x, {-2, 2});
        }) == "reshape: shape is {-2, 2}, but dimensions are 0 or more, and one may be -1");
  CHECK(error_of([&] { reshape(Tensor(), {-1}); }) == "reshape: x is missing");
}

TEST_CASE("reshape shares the buffer under an identity of its own") {
  const Tensor x = counted({2, 6}), y = reshape(x, {3, 4});
  CHECK(y.shape() == Shape{3, 4});
  CHECK(y.bytes() == x.bytes());
  CHECK(y.id() != x.id());
}

TEST_CASE("narrow: the elements from start on, and concat puts them back") {
  for (const Shape& shape : {Shape{7}, Shape{5, 6}, Shape{3, 5, 4}, Shape{2, 1, 3, 5}})
    for (int axis = 0; axis < shape.rank(); ++axis)
      for (int64_t start = 0; start <= shape[axis]; ++start) {
        const Tensor x = counted(shape), whole = counted(shape, DType::i64);
        const int64_t rest = shape[axis] - start;
        const Tensor front = narrow(x, axis, 0, start), back = narrow(x, axis - shape.rank(), start, rest);
        REQUIRE(back.shape() == shape.with(axis, rest));
        for (int64_t i = 0; i < back.numel(); ++i) {
          std::vector<int64_t> index = index_of(i, back.shape());
          index[size_t(axis)] += start;
          CHECK(back.data<double>()[i] == at(x, index));
        }
        CHECK(same_bits(concat({front, back}, axis), x));
        CHECK(same_bits(concat({narrow(whole, axis, 0, start), narrow(whole, axis, start, rest)}, axis - shape.rank()),
                        whole));
      }
}

TEST_CASE("narrow and concat: gradients") {
  for (int axis : {0, 1, 2, -1})
    for (int64_t start : {0, 1, 3})
      gradcheck([&](const std::vector<Tensor>& in) { return narrow(in[0], axis, start, 2); }, {randn({5, 6, 7})});
  gradcheck([](const std::vector<Tensor>& in) { return narrow(in[0], 0, 2, 0); }, {randn({3, 2})});
  for (int axis : {0, 1, 2})  // parts that overlap, and the whole
    gradcheck(
        [&](const std::vector<Tensor>& in) {
          const Tensor x = scale(in[0], 2);
          return narrow(x, axis, 0, 3) * narrow(x, axis, 1, 3) + narrow(x * x, axis, 2, 3);
        },
        {randn({5, 6, 7})});
  for (int axis : {0, 1, -1}) {
    const auto part = [&](int64_t length, uint64_t seed) {
      return randn(Shape{2, 3, 2}.with(axis, length), DType::f64, seed);
    };
    gradcheck([&](const std::vector<Tensor>& in) { return concat(in, axis); },
              {part(1, 1), part(4, 2), part(0, 3), part(2, 4)});
  }
  const Tensor constant = randn({2, 2});
  gradcheck(
      [&](const std::vector<Tensor>& in) {
        const Tensor here = to(constant, in[0].device());
        return concat({here, in[0], here, in[0]}, 1);
      },
      {randn({2, 3})});
}

TEST_CASE("concat: any number of parts") {
  for (size_t n : {1, 7, 8, 9, 16, 17, 70}) {
    std::vector<Tensor> parts;
    int64_t length = 0;
    for (size_t k = 0; k < n; ++k, length += parts.back().dim(0)) parts.push_back(counted({int64_t(k % 3), 2}));
    const Tensor y = concat(parts, 0);
    REQUIRE(y.shape() == Shape{length, 2});
    int64_t start = 0;
    for (const Tensor& p : parts) {
      CHECK(same_bits(narrow(y, 0, start, p.dim(0)), p));
      start += p.dim(0);
    }
    gradcheck([](const std::vector<Tensor>& in) { return concat(in, 0); }, parts);
  }
}

TEST_CASE("stack has its parts along a new axis, and split takes them apart") {
  for (const Shape& shape : {Shape{}, Shape{4}, Shape{2, 3}, Shape{2, 0, 3}})
    for (int axis = -shape.rank() - 1; axis <= shape.rank(); ++axis) {
      const Tensor a = randn(shape, DType::f64, 1), b = randn(shape, DType::f64, 2), c = randn(shape, DType::f64, 3);
      const Tensor y = stack({a, b, c}, axis);
      const int place = axis < 0 ? axis + shape.rank() + 1 : axis;
      REQUIRE(y.rank() == shape.rank() + 1);
      CHECK(y.dim(place) == 3);
      for (int64_t i = 0; i < y.numel(); ++i) {
        std::vector<int64_t> index = index_of(i, y.shape());
        const int64_t which = index[size_t(place)];
        index.erase(index.begin() + place);
        CHECK(y.data<double>()[i] == at(which == 0 ? a : which == 1 ? b : c, index));
      }
      const Tensors parts = split(y, 3, axis);
      REQUIRE(parts.size() == 3);
      CHECK(same_bits(reshape(parts[0], shape), a));
      CHECK(same_bits(reshape(parts[2], shape), c));
      gradcheck([&](auto& in) { return stack({in[1], in[0], in[1]}, axis); }, {a, b});
    }
  const Tensor x = randn({3, 8});
  CHECK(same_bits(concat(split(x, 4, -1), 1), x));
  CHECK(split(x, 1, 0).size() == 1);
  CHECK(split(randn({2, 0}), 5, 1)[4].shape() == Shape{2, 0});
  gradcheck(
      [](auto& in) {
        const Tensors parts = split(in[0], 4, 1);
        return parts[3] * parts[0] + parts[1];
      },
      {x});
}

TEST_CASE("narrow and concat: several tiles, the same bits on any number of threads") {
  const Op middle = [](const std::vector<Tensor>& in) { return narrow(in[0], 1, 3, 500); };
  check_same_bits_on_threads(middle, {randn({100, 701}, DType::f32)});
  const Op both = [](const std::vector<Tensor>& in) { return concat({in[1], in[0]}, 0); };
  check_same_bits_on_threads(both, {randn({30, 701}, DType::f32), randn({60, 701}, DType::f32, 2)});
}

TEST_CASE("broadcast_to: every element is where its index says") {
  const std::pair<Shape, Shape> cases[] = {{{}, {3, 5}},           {{5}, {3, 5}},
                                           {{3, 1}, {3, 5}},       {{1, 5}, {4, 3, 5}},
                                           {{3, 5}, {3, 5}},       {{2, 1, 3}, {2, 4, 3}},
                                           {{1, 2, 1}, {3, 2, 3}}, {{1}, {0}},
                                           {{2, 1}, {0, 2, 3}},    {{1, 2, 1, 2, 1}, {2, 2, 2, 2, 2}}};
  for (const auto& c : cases) {
    const Shape shape = c.second;
    const Tensor x = randn(c.first), y = broadcast_to(x, shape);
    REQUIRE(y.shape() == shape);
    for (int64_t i = 0; i < y.numel(); ++i) CHECK(y.data<double>()[i] == at(x, index_of(i, shape)));
    gradcheck([&](const std::vector<Tensor>& in) { return broadcast_to(in[0], shape); }, {x});
  }
  const Op widened = [](const std::vector<Tensor>& in) { return broadcast_to(in[0], {50, 700, 3}); };
  check_same_bits_on_threads(widened, {randn({700, 1}, DType::f32)});
  for (const int64_t width : {2, 7, 48, 49, 128, 129}) {  // many short rows
    const int64_t n = 40000 / width + 3;
    const Tensor row = randn({width}), column = randn({n, 1}), rows = broadcast_to(row, {n, width}),
                 columns = broadcast_to(column, {n, width});
    size_t wrong = 0;
    for (int64_t i = 0; i < rows.numel(); ++i) {
      wrong += rows.data<double>()[i] != row.data<double>()[i % width];
      wrong += columns.data<double>()[i] != column.data<double>()[i / width];
    }
    CHECK_MESSAGE(wrong == 0, width);
  }
}

TEST_CASE("shape: errors") {
  const Tensor x({2, 3});
  CHECK(error_of([&] { reshape(x, {4}); }) == "reshape: x has shape (2, 3) with 6 elements, but shape is (4) with 4");
  CHECK(error_of([&] { permute(x, {0}); }) == "permute: x has shape (2, 3), but axes are {0}");
  CHECK(error_of([&] { permute(x, {0, 2}); }) == "permute: axes[1] is 2, but x has shape (2, 3)");
  CHECK(error_of([&] {
          permute(x, {1, -1});
        }) == "permute: axes are {1, -1}, but each axis of x (2, 3) may be named once");
  CHECK(error_of([&] { narrow(x, 2, 0, 1); }) == "narrow: axis is 2, but x has shape (2, 3)");
  CHECK(error_of([&] { narrow(x, 1, 2, 2); }) ==
        "narrow: axis 1 of x (2, 3) has 3 elements, but 2 from 2 on were asked for");
  CHECK(error_of([&] { narrow(x, 0, -1, 2); }) ==
        "narrow: axis 0 of x (2, 3) has 2 elements, but 2 from -1 on were asked for");
  CHECK(error_of([&] { narrow(x, 0, INT64_MAX, 2); }) ==
        "narrow: axis 0 of x (2, 3) has 2 elements, but 2 from 9223372036854775807 on were asked for");
  CHECK(error_of([&] { concat({}, 0); }) == "concat: there are no parts, but at least one is needed");
  CHECK(error_of([&] { concat({x, Tensor()}, 0); }) == "concat: parts[1] is missing");
  const Tensor long_one(Shape{0, INT64_MAX});
  CHECK(error_of([&] { concat({long_one, long_one}, 1); }) == "concat: the parts are longer than any tensor");
  CHECK(error_of([&] { concat({x}, 2); }) == "concat: axis is 2, but parts[0] has shape (2, 3)");
  CHECK(error_of([&] {
          concat({x, Tensor({2, 4})}, 0);
        }) ==
        "concat: parts[1] has shape (2, 4), but parts[0] has shape (2, 3), and they may differ along axis 0 only");
  CHECK(error_of([&] {
          concat({x, Tensor(Shape{2})}, 1);
        }) == "concat: parts[1] has shape (2), but parts[0] has shape (2, 3), and they may differ along axis 1 only");
  CHECK(error_of([&] {
          concat({x, Tensor({2, 3}, DType::f64)}, 0);
        }) == "concat: parts[1] is f64, but parts[0] is f32");
  CHECK(error_of([&] { stack({}, 0); }) == "stack: there are no parts, but at least one is needed");
  CHECK(error_of([&] { stack({Tensor()}, 0); }) == "stack: parts[0] is missing");
  CHECK(error_of([&] { stack({x, Tensor()}, 0); }) == "stack: parts[1] is missing");
  CHECK(error_of([&] { stack({x}, 3); }) == "stack: axis is 3, but parts[0] has shape (2, 3)");
  CHECK(error_of([&] {
          stack({x, Tensor({3, 2})}, 0);
        }) == "stack: parts[1] has shape (3, 2), but parts[0] has shape (2, 3)");
  CHECK(error_of([&] {
          stack({Tensor({1, 1, 1, 1, 1, 1})}, 0);
        }) == "stack: parts[0] has shape (1, 1, 1, 1, 1, 1), and there is no room for another axis");
  CHECK(error_of([&] { split(x, 2, 1); }) ==
        "split: axis 1 of x (2, 3) has 3 elements, which do not make 2 equal parts");
  CHECK(error_of([&] { split(x, 0, 1); }) ==
        "split: axis 1 of x (2, 3) has 3 elements, which do not make 0 equal parts");
  CHECK(error_of([&] { split(x, 1, 2); }) == "split: axis is 2, but x has shape (2, 3)");
  CHECK(error_of([&] { split({}, 1, 0); }) == "split: x is missing");
  CHECK(error_of([&] { broadcast_to(x, {2}); }) == "broadcast_to: x has shape (2, 3), which does not broadcast to (2)");
  CHECK(error_of([&] { broadcast_to({}, {2}); }) == "broadcast_to: x is missing");
}
