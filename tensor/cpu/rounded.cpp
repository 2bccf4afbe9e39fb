// Copies of weights: in another dtype, and with zeros behind rows and groups of rows.
#include "tensor/cpu/rows.h"
#include "tensor/kernels.h"

namespace rondo {

void copy_weights(Cpu, std::span<const WeightCopy> copies) {
  for (const WeightCopy& c : copies)
    dispatch_float(c.weight.dtype(), [&]<class From>() {
      dispatch_activation(c.copy.dtype(), [&]<class To>() {
        const From* from = c.weight.data<From>();
        To* to = c.copy.data<To>();
        const int64_t n = c.weight.dim(0) / c.groups, width = c.weight.dim(1);
        const int64_t tall = c.copy.dim(0) / c.groups, wide = c.copy.dim(1);
        parallel_chunks(c.copy.dim(0), cpu::rows_per_tile(wide), [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            const int64_t group = row / tall, inner = row % tall, there = inner < n ? width : 0;
            for (int64_t i = 0; i < there; ++i)
              to[row * wide + i] = converted<To>(from[(group * n + inner) * width + i]);
            std::fill(to + row * wide + there, to + (row + 1) * wide, To(0));
          }
        });
      });
    });
}

}  // namespace rondo
