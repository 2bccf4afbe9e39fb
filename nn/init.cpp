// PyTorch's default initialisations.
#include "nn/init.h"

#include <cmath>

namespace rondo {

Tensor linear_init(const Shape& shape, int64_t fan_in, Generator& g, DType dtype) {
  Tensor t(shape, dtype);
  const double bound = fan_in > 0 ? 1 / std::sqrt(double(fan_in)) : 0;
  fill_uniform(t, -bound, bound, g);
  return parameter(t);
}

Tensor normal_init(const Shape& shape, double mean, double std, Generator& g, DType dtype) {
  Tensor t(shape, dtype);
  fill_normal(t, mean, std, g);
  return parameter(t);
}

Tensor constant_init(const Shape& shape, double value, DType dtype) { return parameter(full(shape, value, dtype)); }

}  // namespace rondo
