// The recurrent state of a layer: S vectors that tokens read and that each block of W tokens rewrites
// (Hutchins et al. 2022, section 3). Shapes: B batch, S state vectors, d dim, H heads, D dim_head, W block width.
#pragma once
#include "../../nn/layers.h"
#include "config.h"

namespace rondo {

// One of x [1, ...] for each sequence of a batch; an x [batch, ...] as it is.
Tensor repeat_batch(const Tensor& x, int64_t batch);

struct StateContainer {
  LayerNorm state_norm;
  Linear q_to_state, q_from_state;   // d -> H*D: queries of tokens to the state, of the state to tokens
  Linear state_to_q, state_to_kv;    // d -> H*D, d -> 2D
  Tensor init_state, state_pos_ids;  // (S, d)
  Linear to_state_out;               // 2*H*D -> d
  Attention to_state_cross_attn, state_self_attn, from_state_cross_attn;
  Linear state_out_to_gate;      // d -> d, with bias
  Tensor learned_ema_beta;       // (d)
  std::optional<DType> compute;  // bf16 where the products are to be of bf16 numbers

  StateContainer() = default;
  StateContainer(const BlockRecurrentConfig& c, Generator& g, DType dtype);

  // What is computed from a state: its normed form, and its keys and values. The initial state is one for the whole
  // batch: what follows from it alone is computed once (here b is 1), and only then repeated.
  struct Prepared {
    Tensor state;   // (b, S, d)
    Tensor normed;  // (b, S, d)
    Tensor kv;      // (b, S, 2D)
  };
  Prepared prepare(const Tensor& state) const;
  // The learned initial state: (1, S, d).
  Tensor initial() const;

  // The tokens' read, for all blocks at once: normed tokens x (B, n, d), state kv of every block (B, blocks, S, 2D)
  // -> (B, n, H*D).
  Tensor read(const Tensor& x, const Tensor& kv, int64_t block_width) const;
  // The next state, from one block's keys and values (B, w, 2D), un-normed and un-rotated -> (B, S, d).
  Tensor write(const Prepared& s, const Tensor& block_kv) const;

  template <class F>
  void each(F&& f) {
    each_in("state_norm.", state_norm, f);
    each_in("q_to_state.", q_to_state, f);
    each_in("q_from_state.", q_from_state, f);
    each_in("state_to_q.", state_to_q, f);
    each_in("state_to_kv.", state_to_kv, f);
    f("init_state", init_state, true);
    f("state_pos_ids", state_pos_ids, true);
    each_in("to_state_out.", to_state_out, f);
    each_in("to_state_cross_attn.", to_state_cross_attn, f);
    each_in("state_self_attn.", state_self_attn, f);
    each_in("from_state_cross_attn.", from_state_cross_attn, f);
    each_in("state_out_to_gate.", state_out_to_gate, f);
    f("learned_ema_beta", learned_ema_beta, true);
  }
};

}  // namespace rondo
