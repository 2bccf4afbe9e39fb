#include "bench/gpu_time.h"

#include "autograd/ops.h"

namespace rondo::bench {

void wait_for_gpu() {  // what is read now waits for all
  static const Tensor last = zeros({}, DType::f32, Device::cuda);
  last.item();
}

Tensor random(const Shape& shape, DType dtype, Generator& g) {
  const Tensor uniform(shape, DType::f32, Device::cuda);
  fill_uniform(uniform, -2, 2, g);
  return parameter(detach(to(uniform, dtype)));
}

double gpu_copy_ceiling() {
  static const double bytes_per_second = [] {
    const Tensor x = zeros({int64_t{128} << 20}, DType::f32, Device::cuda), y = empty_like(x);
    return 2 * double(x.n_bytes()) / seconds_on_gpu([&](int) { assign(x, y); });
  }();
  return bytes_per_second;
}
double gpu_product_ceiling() {
  static const double flops_per_second = [] {
    constexpr int64_t n = 8192;
    Generator g;
    const Tensor a = random({n, n}, DType::bf16, g), b = random({n, n}, DType::bf16, g);
    return 2.0 * double(n * n * n) / seconds_on_gpu([&](int) { matmul(a, b); });
  }();
  return flops_per_second;
}

}  // namespace rondo::bench
