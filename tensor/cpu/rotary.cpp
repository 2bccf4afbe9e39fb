// Rotary position embedding of packed heads.
#include "tensor/cpu/heads.h"
#include "tensor/cpu/rows.h"
#include "tensor/kernels.h"

namespace rondo {

using namespace cpu;

void rotary(Cpu, const Rotation& how, const Tensor& x, const Tensor& table, const Tensor& y) {
  const int64_t width = row_width(x), d = table.dim(2);
  dispatch_float(x.dtype(), [&]<class T>() {
    const T *xs = x.data<T>(), *angles = table.data<T>() + how.which * table.dim(1) * d;
    T* ys = y.data<T>();
    const auto rotate = how.inverse ? rotate_head_inverse<T> : rotate_head<T>;
    parallel_chunks(row_count(x), rows_per_tile(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = angles + (how.first + i % how.n % how.window) * d;
        for (int64_t h = i * width; h < (i + 1) * width; h += d) rotate(xs + h, row, d, ys + h);
      }
    });
  });
}

}  // namespace rondo
