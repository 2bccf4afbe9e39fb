// Windows over images, CUDA's against the CPU's.
#include "tests/cuda/compare.h"

namespace rondo::testing {

TEST_CASE("cuda windows") {
  struct {
    int64_t planes, in_height, in_width, height, width, stride, padding;
  } cases[] = {{3, 5, 7, 3, 2, 1, 0}, {2, 6, 6, 3, 3, 1, 1}, {2, 7, 5, 3, 3, 2, 1},   {1, 8, 9, 2, 2, 3, 0},
               {1, 2, 3, 4, 5, 2, 3}, {2, 1, 1, 1, 1, 1, 0}, {0, 4, 4, 2, 2, 1, 0},   {2, 5, 5, 2, 2, 2, 0},
               {1, 3, 3, 1, 3, 5, 2}, {1, 9, 4, 3, 1, 4, 2}, {5, 20, 30, 4, 4, 3, 2}, {1, 4, 1, 5, 5, 1, 2}};
  for (const auto& c : cases)
    for (const DType d : {DType::f32, DType::f64}) {
      const Windows how{.planes = c.planes,
                        .in_height = c.in_height,
                        .in_width = c.in_width,
                        .height = c.height,
                        .width = c.width,
                        .stride = c.stride,
                        .padding = c.padding,
                        .out_height = (c.in_height + 2 * c.padding - c.height) / c.stride + 1,
                        .out_width = (c.in_width + 2 * c.padding - c.width) / c.stride + 1};
      const Shape planes = {c.planes, c.in_height, c.in_width},
                  columns = {c.planes, c.height, c.width, how.out_height, how.out_width};
      CAPTURE(columns);
      check_same("unfold", {randn(planes, d)}, {like(columns, d)}, 0,
                 [&](auto device, const List& in, const List& out) { unfold(device, how, in[0], out[0]); });
      check_same("fold", {randn(columns, d, 2)}, {like(planes, d)}, 0,
                 [&](auto device, const List& in, const List& out) { fold(device, how, in[0], out[0]); });
    }
}

}  // namespace rondo::testing
