#include "bench/libtorch/model.h"

namespace libtorch {

namespace F = torch::nn::functional;

Tensor split_heads(const Tensor& x, int64_t heads) { return x.unflatten(-1, {heads, -1}).transpose(1, 2); }
Tensor merge_heads(const Tensor& x) { return x.transpose(1, 2).flatten(2); }

#if TORCH_VERSION_MAJOR >= 2
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const auto for_all_heads = [&](const Tensor& x) { return x.unsqueeze(1).expand({-1, q.size(1), -1, -1}); };
  const Tensor keys = for_all_heads(k), values = for_all_heads(v);
  return mask.defined() ? at::scaled_dot_product_attention(q, keys, values, mask)
                        : at::scaled_dot_product_attention(q, keys, values);
}
#else
// All heads of a query row against the one key/value head as one tall product.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const Tensor tall = (q * std::pow(double(q.size(3)), -0.5)).flatten(1, 2);  // (B, H*n, D)
  Tensor scores = torch::bmm(tall, k.transpose(1, 2)).view({q.size(0), q.size(1), q.size(2), k.size(1)});
  if (mask.defined()) scores.add_(mask);
  return torch::bmm(scores.softmax(-1).flatten(1, 2), v).view(q.sizes());
}
#endif

AttentionImpl::AttentionImpl(int64_t dim_head, bool qk_norm) {
  if (!qk_norm) return;
  q_scale = register_parameter("q_scale", torch::ones(dim_head));
  k_scale = register_parameter("k_scale", torch::ones(dim_head));
}

namespace {
Tensor normalized(const Tensor& x, const Tensor& scale) {
  return scale.defined() ? F::normalize(x, F::NormalizeFuncOptions().dim(-1)) * scale : x;
}

// x * cos + rotate_half(x) * sin, where rotate_half takes (x1, x2) to (-x2, x1).
Tensor rotated(const Tensor& x, const Tensor& cos, const Tensor& sin, int64_t first) {
  const auto halves = x.chunk(2, -1);
  const int64_t n = x.size(-2);
  return x * cos.narrow(0, first, n) + torch::cat({-halves[1], halves[0]}, -1) * sin.narrow(0, first, n);
}
}  // namespace

Tensor AttentionImpl::queries(const Tensor& q) const { return normalized(q, q_scale); }
Tensor AttentionImpl::keys(const Tensor& k) const { return normalized(k, k_scale); }

Rotary::Rotary(int64_t block_width, int64_t dim_head) {
  const double D = double(dim_head);
  const Tensor even = torch::arange(0, dim_head, 2, torch::kFloat32);
  const Tensor position = torch::arange(2 * block_width, torch::kFloat32).unsqueeze(1);
  const Tensor half_angle = position * torch::pow(10000, -even / D);
  const Tensor half_scale = torch::pow((even + 0.4 * D) / (1.4 * D), (position - double(block_width)) / 512);
  const Tensor angle = torch::cat({half_angle, half_angle}, -1), scale = torch::cat({half_scale, half_scale}, -1);
  q_cos = angle.cos() * scale, q_sin = angle.sin() * scale;
  k_cos = angle.cos() / scale, k_sin = angle.sin() / scale;
}
Tensor Rotary::queries(const Tensor& q, int64_t first) const { return rotated(q, q_cos, q_sin, first); }
Tensor Rotary::keys(const Tensor& k, int64_t first) const { return rotated(k, k_cos, k_sin, first); }

}  // namespace libtorch
