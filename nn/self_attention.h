// The self-attention of an ordinary transformer, with as many key/value heads as there are heads, or fewer. Made of the
// fused attentions, which keep nothing of size n x n.
#pragma once
#include <algorithm>
#include <memory>
#include <mutex>
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
    int64_t window = 0;    // where causal: it sees so many at most, itself included; 0: all
    bool rotary = false;   // where there is a window: it knows how far away they are (Su et al. 2021, rotary_table)
  };
  Options how;
  Linear to_q, to_kv, to_out;  // d -> d; d -> kv_heads * 2D, for each its key (D = d / heads), then its value; d -> d

  SelfAttention() = default;
  SelfAttention(int64_t dim, Options options, Generator& g, DType dtype = DType::f32) : how(options) {
    check(dim > 0 && how.heads > 0 && dim % how.heads == 0, "SelfAttention: dim is ", dim,
          ", which is not a multiple of ", how.heads, " heads");
    check(how.kv_heads >= 0 && how.heads % n_kv_heads() == 0, "SelfAttention: ", how.heads, " heads cannot share ",
          how.kv_heads, " key/value heads: give a divisor of ", how.heads);
    check(how.window >= 0, "SelfAttention: the window is ", how.window, ", but must be at least 1, or 0 for all");
    check(how.causal || how.window == 0, "SelfAttention: the window is ", how.window,
          ", which asks for causal, but causal is false");
    check(!how.rotary || how.window > 0,
          "SelfAttention: rotary asks for a window, the farthest that a token sees, but the window is 0");
    check(!how.rotary || dim / how.heads % 2 == 0, "SelfAttention: rotary turns pairs, but the width of a head is ",
          dim / how.heads);
    to_q = Linear(dim, dim, false, g, dtype);
    to_kv = Linear(dim, dim / how.heads * n_kv_heads() * 2, false, g, dtype);
    to_out = Linear(dim, dim, false, g, dtype);
  }

  // x [B, n, d] -> [B, n, d], plus the residual where one is given. Each head: softmax(q k^T / sqrt(D)) v over what is
  // seen, q, k and v made of x. Without `rotary` it knows no positions but by what is added to x; with it q and k are
  // turned by where they are, and texts may be longer than the window.
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const { return attend(x, nullptr, residual); }

  // What the tokens so far of a batch's sequences left for those to come: keys and values, as many as the window sees.
  struct Past {
    Tensor kv;  // [B * kv_heads, tokens, 2D]; empty before the first
  };
  // The same for tokens x that follow those of `past`, and are then part of it: a text is written a token at a time,
  // and none is read twice. Gradients go through it, as far as a tape has it.
  Tensor operator()(const Tensor& x, Past& past, const Tensor& residual = {}) const {
    check(how.causal, "SelfAttention: a past asks for causal attention, but causal is false");
    return attend(x, &past, residual);
  }

  template <class F>
  void each(F&& f) {
    each_in("to_q.", to_q, f);
    each_in("to_kv.", to_kv, f);
    each_in("to_out.", to_out, f);
  }

 private:
  // Made when it is first asked for, where it is needed; a layer's copies share it, perhaps on several threads.
  struct Positions {
    std::mutex mutex;
    Tensor table;
  };
  std::shared_ptr<Positions> positions_ = std::make_shared<Positions>();

  int64_t n_kv_heads() const { return how.kv_heads == 0 ? how.heads : how.kv_heads; }

  Tensor attend(const Tensor& x, Past* past, const Tensor& residual) const {
    const int64_t dim = to_q.weight.dim(1);
    check(bool(x), "SelfAttention: x is missing");
    check(x.rank() == 3 && x.dim(2) == dim, "SelfAttention: x has shape ", x.shape(), ", but must be [batch, n, ", dim,
          "]");
    check(!residual || residual.shape() == x.shape(), "SelfAttention: the residual has shape ",
          residual ? residual.shape() : Shape{}, ", but x ", x.shape());
    const Tensor q = apart(to_q(x)), kv = apart(to_kv(x)), before = past ? past->kv : Tensor();
    const int64_t n = x.dim(1), n_before = before && before.rank() == 3 ? before.dim(1) : 0, all = n_before + n;
    const Shape asked = {kv.dim(0), n_before, kv.dim(2)};
    check(!before || before.shape() == asked, "SelfAttention: the past has shape ", before ? before.shape() : Shape{},
          ", but x of shape ", x.shape(), " asks for ", asked);
    const int64_t window = how.window == 0 ? std::max<int64_t>(1, all) : how.window;
    const Tensor seen = how.causal || n == 0 ? window_attention(q, kv, before, window, prepared(q))
                                             : group_attention(q, reshape(kv, {kv.dim(0), 1, n, kv.dim(2)}), n);
    const Tensor y = to_out(together(seen, x.dim(0)), residual);
    if (past) {
      const int64_t kept = how.window == 0 ? all : std::min(how.window - 1, all);
      const Tensor known = before ? concat({before, kv}, 1) : kv;
      past->kv = kept == all ? known : narrow(known, 1, all - kept, kept);
    }
    return y;
  }

  // What queries and keys go through before their product.
  QueryKey prepared(const Tensor& q) const {
    QueryKey qk;
    if (!how.rotary) return qk;
    const DType dtype = q.dtype() == DType::bf16 ? DType::f32 : q.dtype();
    std::lock_guard lock(positions_->mutex);
    Tensor& table = positions_->table;
    if (!table || table.dtype() != dtype || table.device() != q.device())
      table = rotary_table(how.window, to_q.weight.dim(0) / how.heads, dtype, q.device());
    qk.table = table;
    return qk;
  }

  // [B, n, G * w] -> [B * G, n, w] and back: each of the G key/value heads, with the heads it serves, is a row of the
  // batch.
  Tensor apart(const Tensor& x) const {
    const int64_t batch = x.dim(0), n = x.dim(1), groups = n_kv_heads(), width = x.dim(2) / groups;
    if (groups == 1) return x;
    return reshape(permute(reshape(x, {batch, n, groups, width}), {0, 2, 1, 3}), {batch * groups, n, width});
  }
  Tensor together(const Tensor& x, int64_t batch) const {
    const int64_t n = x.dim(1), groups = n_kv_heads(), width = x.dim(2);
    if (groups == 1) return x;
    return reshape(permute(reshape(x, {batch, groups, n, width}), {0, 2, 1, 3}), {batch, n, groups * width});
  }
};

}  // namespace rondo
