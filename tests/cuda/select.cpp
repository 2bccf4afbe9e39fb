// CUDA's comparing and choosing kernels against the CPU's.
#include "tests/cuda/compare.h"

namespace rondo::testing {

TEST_CASE("cuda compare and where") {
  struct Three {
    Shape mask, a, b, y;
  };
  for (DType d : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::i8})
    for (const Three& c : {Three{{3, 5}, {3, 5}, {3, 5}, {3, 5}},
                           {{}, {}, {}, {}},
                           {{3, 1}, {5}, {}, {3, 5}},
                           {{2, 1, 7}, {3, 1}, {2, 3, 7}, {2, 3, 7}},
                           {{900}, {}, {900}, {900}},
                           {{0}, {1}, {}, {0}}}) {
      const auto small = [](const Shape& shape, uint64_t seed) {
        return to(randn(shape, DType::f64, seed), DType::i8);
      };
      const Tensor a = to(small(c.a, 1), d), b = to(small(c.b, 2), d), mask = to(small(c.mask, 3), DType::u8);
      for (Relation how : {Relation::equal, Relation::not_equal, Relation::less, Relation::less_equal})
        check_same("compare", {a, b}, {like(c.y, DType::u8)}, 0,
                   [&](auto device, const List& in, const List& out) { compare(device, how, in[0], in[1], out[0]); });
      check_same("where", {a, b, mask}, {like(c.y, d)}, 0,
                 [](auto device, const List& in, const List& out) { where(device, in[2], in[0], in[1], out[0]); });
    }
}

TEST_CASE("cuda choosing") {
  for (DType d : kDTypes)
    for (const Lines& lines : {Lines{3, 7, 1},
                               {1, 1, 1},
                               {300, 33, 1},
                               {2, 100, 5},
                               {1, 64, 40},
                               {9, 1, 4},
                               {2, 5000, 1},
                               {0, 5, 3},
                               {3, 31, 2}}) {
      const Tensor x = randn({lines.outer, lines.n, lines.inner}, d), dy = randn({lines.outer, lines.inner}, d, 2);
      Tensor index(dy.shape(), DType::i64);
      for (int64_t i = 0; i < index.numel(); ++i) index.data<int64_t>()[i] = (7 * i + 3) % lines.n;
      const Tensor equal = to(to(x, DType::i64), d);  // numbers that come again
      check_same("argmax", {x, equal}, {index, index}, 0, [&](auto device, const List& in, const List& out) {
        argmax(device, in[0], lines, out[0]);
        argmax(device, in[1], lines, out[1]);
      });
      check_same("pick", {x, index, dy}, {dy, x}, 0, [&](auto device, const List& in, const List& out) {
        pick_forward(device, in[0], lines, in[1], out[0]);
        pick_backward(device, in[2], lines, in[1], out[1]);
      });
    }
  // What no index of the line is, where nobody looked.
  const Lines lines{1, 3, 2};
  const Tensor x = on(Device::cuda, {randn({3, 2}, DType::f32)})[0],
               index = on(Device::cuda, {tensor<int64_t>({3, -1}, {2})})[0], y({2}, DType::f32, Device::cuda);
  pick_forward(Cuda{}, x, lines, index, y);
  for (double v : values(to(y, Device::cpu))) CHECK(std::isnan(v));
  Tensor dx({3, 2}, DType::f32, Device::cuda);
  pick_backward(Cuda{}, y, lines, index, dx);
  for (double v : values(to(dx, Device::cpu))) CHECK(v == 0);
}

}  // namespace rondo::testing
