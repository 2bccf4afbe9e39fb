// What a GPU does in one kernel, since each launch costs there; on the CPU one call after the other.
#include "tensor/kernels.h"

namespace rondo {
namespace {

void multiply(const Tensor& x, const Product& p) {
  if (p.residual) copy(Cpu{}, p.residual, p.y);
  gemv(Cpu{}, x, p.weight, p.scale, bool(p.residual), p.y);
}

}  // namespace

void norm_gemv(Cpu, const Tensor& x, const Tensor& gamma, double eps, std::span<const Product> products) {
  const Tensor h = empty_like(x), mean({x.dim(0)}, x.dtype()), rstd({x.dim(0)}, x.dtype());
  layer_norm_forward(Cpu{}, x, gamma, eps, h, mean, rstd);
  for (const Product& p : products) multiply(h, p);
}

void geglu_gemv(Cpu, const Tensor& x, const Product& product) {
  const Tensor h({x.dim(0), x.dim(1) / 2}, x.dtype());
  geglu_forward(Cpu{}, x, h);
  multiply(h, product);
}

void attention_gemv(Cpu, const Tensor& places, int64_t heads, std::span<const Attended> seen, const Brought& brought,
                    const Product& product) {
  if (brought.kv) cache_keys(Cpu{}, places, brought.kv, brought.k_scale, seen[0].table, seen[0].cache, brought.raw);
  const Tensor x({places.dim(0), product.weight.dim(1)}, product.y.dtype());
  for (size_t i = 0; i < seen.size(); ++i)
    attention_decode(Cpu{}, places, heads, seen[i], x, int64_t(i) * seen[i].q.dim(-1));
  multiply(x, product);
}

}  // namespace rondo
