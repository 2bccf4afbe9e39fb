// Windows over images, convolutions and pooling, against loops over every place.
#include "nn/conv.h"

#include "nn/module.h"
#include "tests/gradcheck.h"
#include "tests/runs.h"

namespace rondo::testing {
namespace {

// An element of images, 0 around them.
double at(const Tensor& x, int64_t b, int64_t c, int64_t i, int64_t j) {
  if (i < 0 || i >= x.dim(2) || j < 0 || j >= x.dim(3)) return 0;
  return x.data<double>()[((b * x.dim(1) + c) * x.dim(2) + i) * x.dim(3) + j];
}

Tensor plain_unfold(const Tensor& x, const Window& w) {
  const int64_t height = (x.dim(2) + 2 * w.padding - w.height) / w.stride + 1,
                width = (x.dim(3) + 2 * w.padding - w.width) / w.stride + 1;
  Tensor y({x.dim(0), x.dim(1), w.height, w.width, height, width}, DType::f64);
  double* to = y.data<double>();
  for (int64_t b = 0; b < x.dim(0); ++b)
    for (int64_t c = 0; c < x.dim(1); ++c)
      for (int64_t i = 0; i < w.height; ++i)
        for (int64_t j = 0; j < w.width; ++j)
          for (int64_t oy = 0; oy < height; ++oy)
            for (int64_t ox = 0; ox < width; ++ox)
              *to++ = at(x, b, c, oy * w.stride + i - w.padding, ox * w.stride + j - w.padding);
  return y;
}

Tensor plain_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t stride, int64_t padding) {
  const int64_t out = weight.dim(0), size = weight.dim(2), height = (x.dim(2) + 2 * padding - size) / stride + 1,
                width = (x.dim(3) + 2 * padding - size) / stride + 1;
  Tensor y({x.dim(0), out, height, width}, DType::f64);
  double* to = y.data<double>();
  for (int64_t b = 0; b < x.dim(0); ++b)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t oy = 0; oy < height; ++oy)
        for (int64_t ox = 0; ox < width; ++ox) {
          double sum = bias ? bias.data<double>()[o] : 0;
          for (int64_t c = 0; c < x.dim(1); ++c)
            for (int64_t i = 0; i < size; ++i)
              for (int64_t j = 0; j < size; ++j)
                sum += at(weight, o, c, i, j) * at(x, b, c, oy * stride + i - padding, ox * stride + j - padding);
          *to++ = sum;
        }
  return y;
}

const std::pair<Shape, Window> kCases[] = {
    {{1, 1, 1, 1}, {1, 1}},       {{2, 3, 5, 7}, {3, 2}},       {{2, 1, 6, 6}, {3, 3, 1, 1}},
    {{1, 2, 7, 5}, {3, 3, 2, 1}}, {{1, 1, 8, 9}, {2, 2, 3}},    {{1, 2, 4, 4}, {4, 4}},
    {{2, 1, 2, 3}, {4, 5, 2, 3}}, {{1, 1, 3, 3}, {1, 3, 5, 2}}, {{1, 2, 5, 5}, {2, 2, 2}},
    {{1, 1, 4, 1}, {5, 5, 1, 2}}, {{1, 2, 1, 6}, {3, 5, 1, 2}}, {{1, 1, 40, 3}, {3, 1, 16, 2}},
    {{0, 2, 4, 4}, {2, 2}},       {{2, 0, 4, 4}, {2, 2}},
};

TEST_CASE("unfold: every window, forward and backward") {
  for (const auto& c : kCases) {
    const Tensor x = randn(c.first);
    const Window w = c.second;
    CAPTURE(c.first);
    CAPTURE(w.stride);
    CHECK(max_abs_diff(unfold(x, w), plain_unfold(x, w)) == 0);
    gradcheck([=](const auto& in) { return unfold(in[0], w); }, {x});
    check_f32_against_f64([=](const auto& in) { return unfold(in[0], w); }, {x}, 1e-6);
  }
}

TEST_CASE("unfold: many tiles, the same bits on any number of threads") {
  const Tensor x = randn({3, 2, 90, 70}, DType::f64);
  CHECK(max_abs_diff(unfold(x, {5, 3, 2, 1}), plain_unfold(x, {5, 3, 2, 1})) == 0);
  check_same_bits_on_threads([](const auto& in) { return unfold(in[0], {5, 3, 1, 2}); }, {x});
}

TEST_CASE("Conv2d: place by place, forward and backward") {
  struct {
    int64_t in, out, size;
    Conv2d::Options how;
    Shape x;
  } cases[] = {{1, 1, 1, {}, {2, 1, 3, 4}},
               {3, 4, 3, {.padding = 1}, {2, 3, 5, 6}},
               {2, 3, 3, {.stride = 2, .padding = 1}, {1, 2, 7, 8}},
               {2, 5, 2, {.stride = 3, .bias = false}, {3, 2, 7, 5}},
               {1, 2, 4, {}, {2, 1, 4, 4}},
               {2, 2, 2, {}, {0, 2, 4, 4}}};
  for (const auto& c : cases) {
    CAPTURE(c.x);
    Generator g{.seed = 4};
    Conv2d layer(c.in, c.out, c.size, c.how, g, DType::f64);
    const Tensor x = randn(c.x);
    CHECK(max_abs_diff(layer(x), plain_conv(x, layer.weight, layer.bias, c.how.stride, c.how.padding)) < 1e-14);
    std::vector<Tensor> in{x};
    for (const NamedTensor& p : parameters(layer)) in.push_back(p.tensor);
    const Op op = [&](const auto& t) {
      Conv2d with = layer;
      with.weight = t[1];
      if (t.size() > 2) with.bias = t[2];
      return with(t[0]);
    };
    gradcheck(op, in);
    check_f32_against_f64(op, in, 1e-5);
  }
}

TEST_CASE("Conv2d: parameters as torch.nn.Conv2d has and draws them") {
  Generator g{.seed = 4};
  const Conv2d layer(3, 8, 5, {}, g), plain(3, 8, 5, {.bias = false}, g);
  const std::vector<NamedTensor> all = parameters(layer);
  REQUIRE(all.size() == 2);
  CHECK(all[0].name == "weight");
  CHECK(all[0].tensor.shape() == Shape{8, 3, 5, 5});
  CHECK(all[1].name == "bias");
  CHECK(all[1].tensor.shape() == Shape{8});
  CHECK(parameters(plain).size() == 1);
  double largest = 0;
  for (const double w : values(layer.weight)) largest = std::max(largest, std::abs(w));
  CHECK(largest <= 1 / std::sqrt(75.0));
  CHECK(largest > 0.95 / std::sqrt(75.0));
}

TEST_CASE("pooling: the largest and the mean of each window, forward and backward") {
  const Tensor x = tensor(std::vector<double>{1, 2, 3, 4, 5,  //
                                              6, 9, 8, 7, 0,  //
                                              -1, -2, -3, -4, -5},
                          {1, 1, 3, 5});
  CHECK(max_pool2d(x, 2).to_vector<double>() == std::vector<double>{9, 8});
  CHECK(max_pool2d(x, 2, 1).to_vector<double>() == std::vector<double>{9, 9, 8, 7, 9, 9, 8, 7});
  CHECK(max_pool2d(x, 3).to_vector<double>() == std::vector<double>{9});
  CHECK(avg_pool2d(x, 2).to_vector<double>() == std::vector<double>{4.5, 5.5});
  for (const int64_t stride : {0, 1, 3}) {
    gradcheck([=](const auto& in) { return max_pool2d(in[0], 2, stride); }, {randn({2, 3, 5, 6})});
    gradcheck([=](const auto& in) { return avg_pool2d(in[0], 3, stride); }, {randn({2, 3, 5, 6})});
  }
}

TEST_CASE("images: errors") {
  const Tensor x = randn({1, 2, 4, 6});
  const auto error = [&](const Window& w) { return error_of([&] { unfold(x, w); }); };
  CHECK(error({0, 2}) == "unfold: the window is 0 x 2 with stride 1, but all three must be at least 1");
  CHECK(error({2, 2, 0}) == "unfold: the window is 2 x 2 with stride 0, but all three must be at least 1");
  CHECK(error({2, 2, 1, -1}) == "unfold: the padding is -1, but must be from 0 to less than the window, 2 x 2");
  CHECK(error({2, 2, 1, 2}) == "unfold: the padding is 2, but must be from 0 to less than the window, 2 x 2");
  CHECK(error({5, 2}) == "unfold: a window of 5 x 2 does not go into the images of x (1, 2, 4, 6) with padding 0");
  CHECK(error({2, INT64_MAX, 1, INT64_MAX - 1}) ==
        "unfold: a window of 2 x 9223372036854775807 does not go into the images of x (1, 2, 4, 6) with padding "
        "9223372036854775806");
  CHECK(error({2, 2, INT64_MAX}) == "(no error)");
  CHECK(error_of([] {
          unfold(randn({4, 6}), {2, 2});
        }) == "unfold: x has shape (4, 6), but the op asks for [B, C, H, W]");
  CHECK(error_of([] { unfold({}, {2, 2}); }) == "unfold: x is missing");
  CHECK(error_of([&] { unfold(to(x, DType::i64), {2, 2}); }) == "unfold: x is i64, but the op computes in f32 or f64");
  Generator g{.seed = 4};
  const Conv2d layer(3, 2, 3, {}, g, DType::f64);
  CHECK(error_of([&] { layer(x); }) ==
        "Conv2d: x has shape (1, 2, 4, 6), but weight (2, 3, 3, 3) asks for [B, 3, H, W]");
  CHECK(error_of([&] { layer(Tensor()); }) == "Conv2d: x has shape (), but weight (2, 3, 3, 3) asks for [B, 3, H, W]");
}

}  // namespace
}  // namespace rondo::testing
