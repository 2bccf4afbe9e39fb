// The self-attention of an ordinary transformer, with as many key/value heads as there are heads, or fewer. Made of the
// fused attentions, which keep nothing of size n x n.
#pragma once
#include <algorithm>
#include <string>

#include "../tensor/check.h"
#include "linear.h"
#include "module.h"

namespace rondo {

struct SelfAttention {
  struct Options {
    int64_t heads = 1;
    int64_t kv_heads = 0;  // each serves heads / kv_heads of them (Ainslie et al. 2023); 0: one for each (Vaswani 2017)
    bool causal = true;    // a token sees itself and those before it; false: all tokens
    int64_t window = 0;    // where causal: it sees at most so many; 0: all
  };
  Options how;
  Linear to_q, to_kv, to_out;  // d -> d; d -> kv_heads * 2D, for each its key (D = d / heads), then its value; d -> d

  SelfAttention() = default;
  SelfAttention(int64_t dim, Options options, Generator& g, DType dtype = DType::f32) : how(options) {
    if (how.kv_heads == 0) how.kv_heads = how.heads;
    check(dim > 0 && how.heads > 0 && dim % how.heads == 0, "SelfAttention: dim is ", dim,
          ", which is not a multiple of ", how.heads, " heads");
    check(how.kv_heads > 0 && how.heads % how.kv_heads == 0, "SelfAttention: ", how.heads, " heads cannot share ",
          how.kv_heads, " key/value heads: give a divisor of ", how.heads);
    check(how.window >= 0, "SelfAttention: the window is ", how.window, ", but must be at least 1, or 0 for all");
    check(how.causal || how.window == 0, "SelfAttention: a window of ", how.window, " is causal, but causal is false");
    to_q = Linear(dim, dim, false, g, dtype);
    to_kv = Linear(dim, dim / how.heads * how.kv_heads * 2, false, g, dtype);
    to_out = Linear(dim, dim, false, g, dtype);
  }

  // x [B, n, d] -> [B, n, d], plus the residual where one is given.
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const {
    check(bool(x), "SelfAttention: x is missing");
    check(x.rank() == 3, "SelfAttention: x has shape ", x.shape(), ", but must be [batch, n, ", to_q.weight.dim(1),
          "]");
    const int64_t n = x.dim(1), window = how.window == 0 ? n : std::min(how.window, n);
    const Tensor q = by_kv_head(to_q(x)), kv = by_kv_head(to_kv(x));
    const Tensor seen = how.causal || n == 0 ? window_attention(q, kv, {}, std::max<int64_t>(1, window))
                                             : group_attention(q, reshape(kv, {kv.dim(0), 1, n, kv.dim(2)}), n);
    return to_out(beside(seen, x.dim(0)), residual);
  }

  template <class F>
  void each(F&& f) {
    each_in("to_q.", to_q, f);
    each_in("to_kv.", to_kv, f);
    each_in("to_out.", to_out, f);
  }

 private:
  // [B, n, G * w] -> [B * G, n, w] and back: each key/value head, and the heads it serves, is a row of the batch.
  Tensor by_kv_head(const Tensor& x) const {
    const int64_t batch = x.dim(0), n = x.dim(1), heads = how.kv_heads, width = x.dim(2) / heads;
    if (heads == 1) return x;
    return reshape(permute(reshape(x, {batch, n, heads, width}), {0, 2, 1, 3}), {batch * heads, n, width});
  }
  Tensor beside(const Tensor& x, int64_t batch) const {
    const int64_t n = x.dim(1), heads = how.kv_heads, width = x.dim(2);
    if (heads == 1) return x;
    return reshape(permute(reshape(x, {batch, heads, n, width}), {0, 2, 1, 3}), {batch, n, heads * width});
  }
};

}  // namespace rondo
