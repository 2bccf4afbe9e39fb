// Rotary position embedding with xPos scaling: the table of angles, and the rotation as an op.
#include <cfloat>
#include <cmath>

#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

// One pair's frequency and xPos base. The reference computes them in f32, step by step, and keeps the rounded numbers
// also where it goes on in f64; an angle is up to a thousand times the frequency, so the last bit counts.
struct Pair {
  double frequency, base;
};
Pair pair_of(int64_t i, int64_t head_width) {
  const float even = float(2 * i), d = float(head_width);
  return {1 / float(std::pow(10000.0, double(even / d))),
          (even + float(0.4 * double(head_width))) / float(1.4 * double(head_width))};
}

void check_positions(const Tensor& x, const Tensor& table, int64_t first, int64_t window) {
  check_float("rotary", "x", x);
  check_alike("rotary", "table", table, "x", x);
  check(table.rank() == 3 && table.dim(0) == 2 && table.dim(2) > 0 && table.dim(2) % 2 == 0, "rotary: table has shape ",
        table.shape(), ", but the op asks for (2, 2W, D), D even");
  check(x.rank() == 3 && x.dim(2) % table.dim(2) == 0, "rotary: x has shape ", x.shape(), ", but table ", table.shape(),
        " asks for (B, n, H*", table.dim(2), ")");
  check(window >= 1, "rotary: window is ", window, ", but positions ask for at least 1");
  const int64_t n = std::min(window, x.dim(1));
  check(first >= 0 && first <= table.dim(1) - n, "rotary: positions are ", n, " from ", first, " on, but table ",
        table.shape(), " has 0..", table.dim(1) - 1);
}

}  // namespace

Tensor rotary_table(int64_t window, int64_t head_width, DType dtype, Device device) {
  check(window >= 1 && window <= INT64_MAX / 2, "rotary_table: window is ", window,
        ", but the table asks for at least 1 and has twice as many positions");
  check(head_width >= 2 && head_width % 2 == 0, "rotary_table: head width is ", head_width,
        ", but pairs ask for an even number");
  const double largest = std::pow(1 / pair_of(0, head_width).base, double(window) / 512);
  check(largest < (dtype == DType::f64 ? DBL_MAX : FLT_MAX), "rotary_table: window is ", window,
        ", but the scales of so many positions (xPos) leave the range of ", dtype);
  const int64_t n = 2 * window, half = head_width / 2;
  Tensor table({2, n, head_width}, dtype);
  dispatch_float(dtype, [&]<class T>() {
    for (int64_t i = 0; i < half; ++i) {
      const Pair pair = pair_of(i, head_width);
      for (int64_t position = 0; position < n; ++position) {
        const double angle = double(position) * pair.frequency;
        const double scale = std::pow(pair.base, double(position - window) / 512);
        T* query = table.data<T>() + position * head_width + i;
        T* key = query + n * head_width;
        query[0] = T(std::cos(angle) * scale), query[half] = T(std::sin(angle) * scale);
        key[0] = T(std::cos(angle) / scale), key[half] = T(std::sin(angle) / scale);
      }
    }
  });
  return to(table, device);
}

Tensor rotary(const Tensor& x, const Tensor& table, Rotate which, int64_t first, int64_t window) {
  check_positions(x, table, first, window);
  no_gradient("rotary (table)", table);
  Rotation how{which == Rotate::key, first, window, x.dim(1)};
  Tensor y = empty_like(x);
  dispatch(x.device(), [&](auto device) { rotary(device, how, x, table, y); });
  how.inverse = true;
  return record("rotary", {x}, y, [how, table](const Tensor& dy) -> Grads {
    Tensor dx = empty_like(dy);
    dispatch(dy.device(), [&](auto device) { rotary(device, how, dy, table, dx); });
    return {dx};
  });
}

}  // namespace rondo
