// The attention half of a layer: sliding-window self-attention, and in a recurrent layer the read of the state beside
// it.
#pragma once
#include <optional>

#include "state_container.h"

namespace rondo {

// What a pass leaves for what follows it: nothing; the keys and values of its last block, which may go on; or these and
// the state written from them.
enum class Carry { nothing, keys, all };

struct AttentionBlock {
  LayerNorm norm;
  Linear to_q, to_kv, to_out;  // d -> H*D; d -> 2D (one key/value head); H*D or 2*H*D -> d
  Attention attn;
  std::optional<StateContainer> state_container;  // in recurrent layers

  AttentionBlock() = default;
  AttentionBlock(const BlockRecurrentConfig& c, bool recurrent, Generator& g, DType dtype);

  struct Result {
    Tensor x;       // (B, n, d), the residual included, or {}
    Tensor memory;  // (B, w, 2D): keys and values of the last block
    Tensor state;   // (B, S, d), or {} in a layer without state
  };
  // x (B, n, d) is a whole segment or its beginning; memory (B, m, 2D) and state (B, S, d) come from before it, or are
  // {}. Without `output` only what is carried is made: it does not depend on what the layer's queries see.
  Result operator()(const Tensor& x, const Tensor& memory, const Tensor& state, int64_t block_width,
                    const Tensor& rotary_table, Carry carry, bool output = true) const;

  template <class F>
  void each(F&& f) {
    each_in("norm.", norm, f);
    each_in("to_q.", to_q, f);
    each_in("to_kv.", to_kv, f);
    each_in("attn.", attn, f);
    if (state_container) each_in("state_container.", *state_container, f);
    each_in("to_out.", to_out, f);
  }
};

}  // namespace rondo
