// What a pass makes of its tokens, layer by layer. A few tokens go through fused kernels, since on a GPU every launch
// costs; more go through the ops.
#include <array>
#include <cmath>

#include "models/block_recurrent/decoder.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

bool few(const Tensor& x) { return x.dim(0) <= kFewRows; }

Product product(const Tensor& x, const Linear& w, const Tensor& residual) {
  return {w.weight, w.weight_scale, residual, Tensor({x.dim(0), w.weight.dim(0)}, x.dtype(), x.device())};
}

// norm(x) through each of some layers, up to three; null stands for none.
std::array<Tensor, 3> through(const LayerNorm& norm, const Tensor& x, std::initializer_list<const Linear*> layers) {
  std::array<Tensor, 3> y;
  std::array<Product, 3> products;
  const Tensor h = few(x) ? Tensor() : norm(x);
  size_t n = 0;
  for (const Linear* w : layers) {
    if (!w) continue;
    if (h) {
      y[n++] = (*w)(h);
    } else {
      products[n] = product(x, *w, {});
      y[n] = products[n].y, ++n;
    }
  }
  if (!h) dispatch(x.device(), [&](auto device) { norm_gemv(device, x, norm.gamma, norm.eps, {products.data(), n}); });
  return y;
}

// What tokens see, of what they bring too, through to_out, plus x.
Tensor attended(const Tensor& places, int64_t heads, std::span<const Attended> seen, const Brought& brought,
                const Linear& to_out, const Tensor& x) {
  return dispatch(x.device(), [&](auto device) {
    if (few(x)) {
      const Product p = product(x, to_out, x);
      attention_gemv(device, places, heads, seen, brought, p);
      return p.y;
    }
    cache_keys(device, places, brought.kv, brought.k_scale, seen[0].table, seen[0].cache, brought.raw);
    const int64_t width = seen[0].q.dim(1);
    const Tensor all({x.dim(0), int64_t(seen.size()) * width}, x.dtype(), x.device());
    for (size_t i = 0; i < seen.size(); ++i) attention_decode(device, places, heads, seen[i], all, int64_t(i) * width);
    return to_out(all, x);
  });
}

Tensor feed_forward(const FeedForward& f, const Tensor& x) {
  if (!few(x)) return f(x);
  const Tensor h = through(f.norm, x, {&f.in})[0];
  const Product p = product(x, f.out, x);
  dispatch(x.device(), [&](auto device) { geglu_gemv(device, h, p); });
  return p.y;
}

double factor_of(const Attention& a, int64_t head_width) {
  return a.factor ? a.factor : 1 / std::sqrt(double(head_width));
}

}  // namespace

// A layer's output for x (n, d), whose tokens stand at `places` (their keys and values are kept there).
Tensor Decoder::layer(size_t index, const Tensor& x, const Tensor& places) const {
  const BlockRecurrentConfig& c = model_->config;
  const AttentionBlock& a = model_->layers[index].attention;
  const auto& state = a.state_container;
  const std::array<Tensor, 3> h = through(a.norm, x, {&a.to_q, &a.to_kv, state ? &state->q_to_state : nullptr});
  const Tensor &q = h[0], &kv = h[1], &state_q = h[2];
  const Attention& read = state ? state->to_state_cross_attn : a.attn;
  const Tensor no_table;
  const Attended seen[] = {{q, a.attn.q_scale, model_->rotary, factor_of(a.attn, c.dim_head), windows_[index]},
                           {state_q, read.q_scale, no_table, factor_of(read, c.dim_head), states_[index]}};
  const Tensor y = attended(places, c.heads, std::span(seen).first(state ? 2 : 1), {kv, a.attn.k_scale, blocks_[index]},
                            a.to_out, x);
  return feed_forward(model_->layers[index].feed_forward, y);
}

Tensor Decoder::head(const Tensor& x) const { return through(model_->final_norm, x, {&model_->head})[0]; }

}  // namespace rondo
