// CUDA's kernels against the CPU's: the same inputs, results compared. Where the kernels are emulated, this runs
// without a GPU.
#include "tensor/kernels.h"

#include <array>
#include <utility>

#include "tests/cuda/compare.h"

namespace rondo::testing {
namespace {

// Odd, one element, empty, wider than a block, more rows than a block has threads; whole runs of 16 bytes of any type,
// as wide as a warp can hold and wider.
const Shape kRows[] = {{3, 7},     {1, 1},   {0, 5},   {4, 0},   {2, 1000}, {300, 33}, {5, 31},
                       {2, 3, 32}, {7, 264}, {3, 512}, {9, 520}, {2, 1024}, {1, 1032}, {0, 8}};
const Shape kManyRows = {4100, 8};  // more than there are warps that hold one

// kRows, and another where rows are held by warps: those of f64 are not.
std::vector<Shape> with(const Shape& shape, DType d) {
  std::vector<Shape> all(std::begin(kRows), std::end(kRows));
  if (d != DType::f64) all.push_back(shape);
  return all;
}

Shape rows_of(const Shape& shape) {
  Shape rows = shape;
  rows.pop_back();
  return rows;
}

}  // namespace

TEST_CASE("cuda memory: copies there and back, filling, converting") {
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{3, 5}, Shape{100003}}) {
    const Tensor x = randn(shape, DType::f32);
    CHECK(same_bits(to(to(x, Device::cuda), Device::cpu), x));
    CHECK(same_bits(to(clone(to(x, Device::cuda)), Device::cpu), x));
    CHECK(same_bits(to(full(shape, 3.5, DType::f64, Device::cuda), Device::cpu), full(shape, 3.5, DType::f64)));
    for (DType d : {DType::f64, DType::bf16, DType::i32, DType::i64, DType::f32})
      CHECK(same_bits(to(to(to(x, Device::cuda), d), Device::cpu), to(x, d)));
  }
  const Tensor there = full({2, 3}, 1, DType::f32, Device::cuda);
  CHECK(error_of([&] { there.data<float>(); }) ==
        "data: the tensor (2, 3) is on cuda; to(tensor, Device::cpu) gives a copy to read");
  CHECK(there.to_vector<float>() == std::vector<float>(6, 1));
  CHECK(full({}, 7, DType::i64, Device::cuda).item() == 7);
}

TEST_CASE("cuda memory: rows, strides, updates in place, numbers that are not finite") {
  for (DType d : {DType::f64, DType::f32, DType::bf16, DType::u8}) {
    Tensor x({4, 6}, DType::f32);
    for (int i = 0; i < 24; ++i) x.data<float>()[i] = float(i * 7 % 24);
    x = to(x, d);
    check_same("copy_rows", {x}, {like({4, 2}, d)}, 0, [](auto device, const List& in, const List& out) {
      copy_rows(device, in[0], {3, 6}, out[0], {0, 2}, 4, 2);
    });
    check_same("copy_strided", {x}, {like({6, 3, 4}, d)}, 0, [](auto device, const List& in, const List& out) {
      copy_strided(device, in[0], {1, 0, 6}, out[0]);
    });
  }
  // Elements that move together: 1, 2, 4, 8 and 16 bytes of them, and what is all that stands in their way.
  for (DType d : {DType::f64, DType::f32, DType::bf16, DType::u8}) {
    Tensor x({6, 48}, DType::f32);
    for (int i = 0; i < int(x.numel()); ++i) x.data<float>()[i] = float(i * 7 % 251);
    x = to(x, d);
    for (const auto& [shape, strides] : {std::pair<Shape, Shape>{{3, 6, 48}, {0, 48, 1}},
                                         {{6, 3, 48}, {48, 0, 1}},
                                         {{3, 48, 2}, {96, 1, 48}},
                                         {{5, 2, 4}, {1, 48, 1}},
                                         {{5, 2, 4}, {2, 48, 1}},
                                         {{5, 2, 4}, {4, 48, 1}},
                                         {{5, 16}, {7, 1}},
                                         {{6, 12}, {48, 1}},
                                         {{2, 1, 6}, {48, 0, 1}},
                                         {{2, 7, 1}, {48, 1, 0}},
                                         {{3, 2, 16}, {48, 1, 0}},
                                         {{4, 4}, {0, 0}},
                                         {{2, 0}, {48, 1}},
                                         {{1, 1}, {1, 1}}})
      check_same("copy_strided", {x}, {like(shape, d)}, 0,
                 [&, strides = strides](auto device, const List& in, const List& out) {
                   copy_strided(device, in[0], strides, out[0]);
                 });
    for (const auto& [offset, stride, width] : {std::array<int64_t, 3>{0, 48, 48},
                                                {16, 48, 32},
                                                {4, 48, 16},
                                                {2, 48, 16},
                                                {1, 48, 16},
                                                {0, 46, 16},
                                                {0, 48, 15},
                                                {0, 48, 0}})
      for (int64_t n_rows : {1, 5})
        check_same("copy_rows", {x}, {like({5, 48}, d)}, 0,
                   [&, offset = offset, stride = stride, width = width](auto device, const List& in, const List& out) {
                     fill(device, 1, out[0]);
                     copy_rows(device, in[0], {offset, stride}, out[0], {0, 48}, n_rows, width);
                     if (width < 32) copy_rows(device, in[0], {0, 48}, out[0], {offset + 16, stride}, n_rows, width);
                   });
  }
  for (DType d : kActivations)
    for (int64_t width : {1, 5, 16})
      check_same("add_rows", {randn({6, 48}, d), randn({6, 40}, d, 2)}, {like({6, 40}, d)}, tolerance_of(d),
                 [&](auto device, const List& in, const List& out) {
                   copy(device, in[1], out[0]);
                   add_rows(device, in[0], {3, 48}, out[0], {2, 40}, 5, width);
                   add_rows(device, in[0], {0, 1}, out[0], {20, 40}, 6, width);
                   add_rows(device, in[0], {16, 48}, out[0], {8, 40}, 5, width);
                   add_rows(device, in[0], {16, 1}, out[0], {8, 1}, 1, width);
                   add_rows(device, in[0], {0, 48}, out[0], {0, 40}, 0, width);
                 });
  for (DType d : kActivations)
    for (const Shape& shape : kRows)
      check_same("add_into, scale_into", {randn(shape, d), randn(shape, d, 2)}, {like(shape, d)}, 0,
                 [&](auto device, const List& in, const List& out) {
                   copy(device, in[0], out[0]);
                   add_into(device, in[1], out[0]);
                   if (d != DType::bf16) scale_into(device, 0.25, out[0]);
                 });
  Tensor x = randn({1000}, DType::f32);
  CHECK(first_non_finite(Cuda{}, to(x, Device::cuda)) == -1);
  x.data<float>()[777] = NAN, x.data<float>()[900] = -INFINITY;
  CHECK(first_non_finite(Cuda{}, to(x, Device::cuda)) == 777);
  CHECK(first_non_finite(Cuda{}, to(to(x, DType::bf16), Device::cuda)) == 777);
  CHECK(first_non_finite(Cuda{}, Tensor({0}, DType::f32, Device::cuda)) == -1);
}

TEST_CASE("cuda memory: copies of weights, rounded and padded") {
  struct Case {
    int64_t groups, rows, width, more_rows, more_width;
  };
  const std::pair<DType, DType> dtypes[] = {
      {DType::f32, DType::bf16}, {DType::f32, DType::f32}, {DType::f64, DType::f64}};
  for (const auto& [from, to] : dtypes) {
    List weights, copies;
    std::vector<int64_t> groups;
    const auto add = [&, d = from, rounded = to](const Case& c) {
      weights.push_back(randn({c.groups * c.rows, c.width}, d, weights.size() + 1));
      copies.push_back(like({c.groups * (c.rows + c.more_rows), c.width + c.more_width}, rounded));
      groups.push_back(c.groups);
    };
    for (const Case& c : {Case{1, 3, 5, 0, 0},
                          {1, 5, 64, 0, 0},
                          {2, 5, 16, 3, 0},
                          {1, 4, 13, 0, 3},
                          {3, 3, 7, 2, 4},
                          {1, 9, 24, 7, 8},
                          {1, 1, 1, 0, 0},
                          {2, 70, 40, 10, 24},
                          {1, 0, 8, 2, 0},
                          {1, 2, 0, 0, 3},
                          {1, 0, 0, 0, 0}})
      add(c);
    for (int i = 0; i < 80; ++i) add({1, 1 + i % 3, 8, i % 2, 0});  // more than one list has
    check_same("copy_weights", weights, copies, 0, [&](auto device, const List& in, const List& out) {
      std::vector<WeightCopy> list;
      for (size_t i = 0; i < in.size(); ++i) list.push_back({in[i], out[i], groups[i]});
      copy_weights(device, list);
      copy_weights(device, {});
    });
  }
}

TEST_CASE("cuda elementwise") {
  const Unary all[] = {Exp(),  Log(),  Tanh(), Sigmoid(),         Relu(),      Gelu(),
                       Silu(), Sqrt(), Abs(),  Clamp{-0.5, 0.75}, Scale{-0.75}};
  for (DType d : kDTypes)
    for (const Shape& shape : {Shape{1001}, Shape{0}, Shape{1}}) {
      const Tensor x = randn(shape, d), dy = randn(shape, d, 2);
      for (const Unary& f : all) {
        check_same("unary", {x}, {like(shape, d)}, tolerance_of(d),
                   [&](auto device, const List& in, const List& out) { unary(device, f, in[0], out[0]); });
        check_same("unary_backward", {dy, x}, {like(shape, d), like(shape, d)}, tolerance_of(d),
                   [&](auto device, const List& in, const List& out) {
                     unary(device, f, in[1], out[0]);
                     unary_backward(device, f, in[0], in[1], out[0], out[1]);
                   });
      }
    }
  for (DType d : kDTypes)
    for (Binary f : {Binary::add, Binary::sub, Binary::mul, Binary::div, Binary::larger, Binary::smaller, Binary::above,
                     Binary::passed})
      for (const auto& [a, b, y] : {std::array<Shape, 3>{Shape{3, 5}, {3, 5}, {3, 5}},
                                    {Shape{5}, {3, 1}, {3, 5}},
                                    {Shape{}, {2, 1, 3}, {2, 1, 3}},
                                    {Shape{2, 1, 7}, {4, 1}, {2, 4, 7}},
                                    {Shape{2, 1, 8}, {4, 1}, {2, 4, 8}},
                                    {Shape{2, 3, 6}, {3, 1}, {2, 3, 6}},
                                    {Shape{4, 8}, {2, 4, 8}, {2, 4, 8}},
                                    {Shape{4, 6}, {}, {4, 6}},
                                    {Shape{0, 5}, {5}, {0, 5}}})
        check_same("binary", {randn(a, d), randn(b, d, 2)}, {like(y, d)}, tolerance_of(d),
                   [&](auto device, const List& in, const List& out) { binary(device, f, in[0], in[1], out[0]); });
}

TEST_CASE("cuda reductions") {
  for (DType d : kActivations)
    for (const auto& [x, y] : {std::pair<Shape, Shape>{{1000, 33}, {33}},
                               {{1000, 33}, {1000, 1}},
                               {{2, 3, 4, 5}, {3, 1, 5}},
                               {{7}, {}},
                               {{100000}, {1}},
                               {{3, 4}, {3, 4}},
                               {{0, 4}, {4}},
                               {{0, 64}, {64}},
                               {{3, 40}, {40}},
                               {{65, 2, 20}, {2, 20}},
                               {{20000, 16}, {1, 16}},
                               {{1200, 100}, {100}},
                               {{9, 65538}, {65538}},
                               {{3, 1, 64}, {1, 64}},
                               {{3, 5, 64}, {3, 1, 64}},
                               {{1, 64}, {1, 64}},
                               {{4, 0}, {4, 0}}})
      check_same("sum_to", {randn(x, d)}, {like(y, d)}, tolerance_of(d),
                 [&](auto device, const List& in, const List& out) {
                   sum_to(device, in[0], out[0]);
                   sum_to(device, in[0], {out[0], true});
                 });
}

TEST_CASE("cuda norms") {
  for (DType activation : kActivations)
    for (const Shape& shape : with(kManyRows, activation)) {
      const DType d = dtype_beside(activation);
      const Tensor x = randn(shape, d), gamma = randn({shape.back()}, d, 2), dy = randn(shape, activation, 3);
      const Tensor per_row = like(rows_of(shape), d);
      // A row of one number has no variance: its rounding is multiplied by rstd = 1 / sqrt(eps) = 316.
      const double tolerance = std::max(tolerance_of(activation), tolerance_of(d) * (shape.back() == 1 ? 316 : 1));
      check_same("layer_norm", {x, gamma, dy}, {dy, per_row, per_row, x, gamma}, tolerance,
                 [](auto device, const List& in, const List& out) {
                   if (in[0].numel() == 0) fill(device, 0, out[1]), fill(device, 0, out[2]);
                   layer_norm_forward(device, in[0], in[1], 1e-5, out[0], out[1], out[2]);
                   layer_norm_backward(device, in[2], in[0], in[1], out[1], out[2], out[3], out[4]);
                   if (in[0].numel() == 0) fill(device, 0, out[1]), fill(device, 0, out[2]);
                 });
      if (d != activation) continue;
      check_same("rms_norm", {x, gamma, dy}, {x, per_row, x, gamma}, tolerance_of(d),
                 [](auto device, const List& in, const List& out) {
                   rms_norm_forward(device, in[0], in[1], 1e-6, out[0], out[1]);
                   rms_norm_backward(device, in[2], in[0], in[1], out[1], out[2], out[3]);
                   if (in[0].numel() == 0) fill(device, 0, out[1]);
                 });
      if (shape.back() > 0)
        check_same("l2_normalize", {x, gamma, dy}, {x, x, gamma}, tolerance_of(d),
                   [](auto device, const List& in, const List& out) {
                     l2_normalize_forward(device, in[0], in[1], out[0]);
                     l2_normalize_backward(device, in[2], in[0], in[1], out[1], out[2]);
                     l2_normalize_backward(device, in[2], in[0], in[1], out[1], {out[2], true});
                   });
    }
  // Gradients that are added to.
  for (DType activation : kActivations)
    for (const Shape& shape : {Shape{5, 7}, Shape{20, 64}, Shape{3, 512}, Shape{9, 1028}}) {
      const DType d = dtype_beside(activation);
      const Tensor x = randn(shape, d), gamma = randn({shape.back()}, d, 2), dy = randn(shape, activation, 3);
      const Tensor per_row = like(rows_of(shape), d);
      check_same("layer_norm, added", {x, gamma, dy}, {dy, per_row, per_row, x, gamma}, tolerance_of(activation),
                 [](auto device, const List& in, const List& out) {
                   layer_norm_forward(device, in[0], in[1], 1e-5, out[0], out[1], out[2]);
                   copy(device, in[0], out[3]);
                   copy(device, in[1], out[4]);
                   layer_norm_backward(device, in[2], in[0], in[1], out[1], out[2], {out[3], true}, {out[4], true});
                 });
      if (d == activation)
        check_same("rms_norm, added", {x, gamma, dy}, {x, per_row, x, gamma}, tolerance_of(d),
                   [](auto device, const List& in, const List& out) {
                     rms_norm_forward(device, in[0], in[1], 1e-6, out[0], out[1]);
                     copy(device, in[0], out[2]);
                     copy(device, in[1], out[3]);
                     rms_norm_backward(device, in[2], in[0], in[1], out[1], {out[2], true}, {out[3], true});
                   });
    }
  // Below the smallest norm; a large mean; a NaN stays in its row.
  for (double size : {0.0, 1e-14})
    check_same("l2_normalize, tiny", {to(full({2, 8}, size), DType::f64), randn({8}), randn({2, 8})},
               {like({2, 8}, DType::f64), like({2, 8}, DType::f64)}, 1e-13,
               [](auto device, const List& in, const List& out) {
                 const Tensor dscale = empty_like(in[1]);
                 l2_normalize_forward(device, in[0], in[1], out[0]);
                 l2_normalize_backward(device, in[2], in[0], in[1], out[1], dscale);
               });
  const Tensor large = full({3, 515}, 12345.678), y({3, 515}, DType::f32, Device::cuda),
               stats({3}, DType::f32, Device::cuda);
  layer_norm_forward(Cuda{}, to(large, Device::cuda), full({515}, 1, DType::f32, Device::cuda), 1e-5, y, stats,
                     empty_like(stats));
  CHECK(max_abs_diff(to(y, Device::cpu), zeros({3, 515})) == 0);
}

TEST_CASE("cuda softmax and loss") {
  for (DType d : kDTypes)
    for (const Shape& shape : kRows) {
      const Tensor x = randn(shape, d), dy = randn(shape, d, 2);
      scale_into(Cpu{}, 5, x);
      check_same("softmax", {x, dy}, {x, x}, tolerance_of(d), [](auto device, const List& in, const List& out) {
        softmax_forward(device, in[0], out[0]);
        softmax_backward(device, in[1], out[0], out[1]);
      });
      check_same("log_softmax", {x, dy}, {x, x}, tolerance_of(d), [](auto device, const List& in, const List& out) {
        log_softmax_forward(device, in[0], out[0]);
        log_softmax_backward(device, in[1], out[0], out[1]);
      });
      if (shape.back() == 0) continue;
      Tensor labels(rows_of(shape), DType::i64);
      for (int64_t i = 0; i < labels.numel(); ++i) labels.data<int64_t>()[i] = i % 3 == 2 ? -100 : i * 5 % shape.back();
      check_same("cross_entropy", {x, labels, full({}, 1.5, d)},
                 {like({}, d), like(labels.shape(), d), like({}, DType::i64), x}, tolerance_of(d),
                 [](auto device, const List& in, const List& out) {
                   cross_entropy_forward(device, in[0], in[1], -100, out[0], out[1], out[2]);
                   cross_entropy_backward(device, in[2], in[0], in[1], -100, out[1], out[2], out[3]);
                 });
    }
}

TEST_CASE("cuda embedding") {
  for (DType d : kDTypes)
    for (const auto& [n, width] :
         {std::pair<int64_t, int64_t>{0, 33}, {1, 33}, {77, 33}, {300, 8}, {600, 1028}, {2500, 72}}) {
      Tensor tokens({n}, DType::i64);
      for (int64_t i = 0; i < n; ++i) tokens.data<int64_t>()[i] = i * i % 11;
      check_same("embedding", {randn({11, width}, d), tokens, randn({n, width}, d, 2)},
                 {like({n, width}, d), like({11, width}, d)}, tolerance_of(d),
                 [](auto device, const List& in, const List& out) {
                   embedding_forward(device, in[0], in[1], out[0]);
                   embedding_backward(device, in[2], in[1], out[1]);
                 });
    }
}

// Nobody looks at what is on a GPU already: a token that is none makes its row NaN, and a label the loss.
TEST_CASE("cuda tokens and labels that are none") {
  const Tensor tokens = to(tensor<int64_t>({3, -1, 4, 0}, {4}), Device::cuda), x = randn({4, 2});
  const Tensor y({4, 2}, DType::f64, Device::cuda), dweight = empty_like(y);
  embedding_forward(Cuda{}, to(x, Device::cuda), tokens, y);
  embedding_backward(Cuda{}, to(x, Device::cuda), tokens, dweight);
  const std::vector<double> given = values(x), found = values(to(y, Device::cpu)),
                            sums = values(to(dweight, Device::cpu));
  for (size_t i = 0; i < 8; ++i) {
    const size_t row = i / 2;
    CHECK((row == 1 || row == 2 ? std::isnan(found[i]) : found[i] == given[(row == 0 ? 3 : 0) * 2 + i % 2]));
    CHECK(sums[i] == (row == 3 ? given[i % 2] : row == 0 ? given[6 + i % 2] : 0));
  }
  for (int64_t wrong : {-1, 2}) {
    const Tensor labels = to(tensor<int64_t>({1, wrong, -100, 0}, {4}), Device::cuda), logits = to(x, Device::cuda);
    const Tensor loss({}, DType::f64, Device::cuda), lse({4}, DType::f64, Device::cuda), dlogits = empty_like(y);
    const Tensor count({}, DType::i64, Device::cuda);
    cross_entropy_forward(Cuda{}, logits, labels, -100, loss, lse, count);
    cross_entropy_backward(Cuda{}, full({}, 1, DType::f64, Device::cuda), logits, labels, -100, lse, count, dlogits);
    CHECK(std::isnan(loss.item()));
    const std::vector<double> gradient = values(to(dlogits, Device::cpu));
    for (size_t i = 0; i < 8; ++i) CHECK(std::isnan(gradient[i]) == (i / 2 == 1));
  }
}

TEST_CASE("cuda gates and rotary") {
  for (DType d : kActivations)
    for (const Shape& shape : kRows) {
      const Shape doubled = shape.with(-1, 2 * shape.back());
      check_same("geglu", {randn(doubled, d), randn(shape, d, 2)}, {like(shape, d), like(doubled, d)}, tolerance_of(d),
                 [](auto device, const List& in, const List& out) {
                   geglu_forward(device, in[0], out[0]);
                   geglu_backward(device, in[1], in[0], out[1]);
                 });
      if (d == DType::bf16) continue;
      const Tensor c = randn(shape, d);
      check_same("state_gate", {c, randn(shape, d, 2), randn({shape.back()}, d, 3), randn(shape, d, 4)},
                 {c, c, c, like({shape.back()}, d)}, tolerance_of(d), [](auto device, const List& in, const List& out) {
                   state_gate_forward(device, in[0], in[1], in[2], out[0]);
                   state_gate_backward(device, in[3], in[0], in[1], in[2], out[1], out[2], out[3]);
                   state_gate_backward(device, in[3], in[0], in[1], in[2], out[1], out[2], {out[3], true});
                 });
    }
  for (DType d : kDTypes)
    for (int which : {0, 1})
      for (int64_t width : {6, 16})
        for (bool inverse : {false, true})
          check_same("rotary", {randn({2, 5, 3 * width}, d), randn({2, 8, width}, d, 2)}, {like({2, 5, 3 * width}, d)},
                     tolerance_of(d), [&](auto device, const List& in, const List& out) {
                       rotary(device, {which, 2, 3, 5, inverse}, in[0], in[1], out[0]);
                     });
}

}  // namespace rondo::testing
