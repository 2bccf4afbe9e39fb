#include "models/block_recurrent/attention_block.h"

#include <algorithm>
#include <utility>

namespace rondo {

AttentionBlock::AttentionBlock(const BlockRecurrentConfig& c, bool recurrent, Generator& g, DType dtype)
    : norm(c.dim, dtype),
      to_q(c.dim, c.heads * c.dim_head, false, g, dtype),
      to_kv(c.dim, 2 * c.dim_head, false, g, dtype),
      to_out((recurrent ? 2 : 1) * c.heads * c.dim_head, c.dim, false, g, dtype),
      attn(c.dim_head, {.qk_rmsnorm = recurrent || c.all_layers_qk_rmsnorm, .qk_norm_scale = c.qk_norm_scale}, dtype) {
  if (recurrent) state_container.emplace(c, g, dtype);
}

// All blocks of the segment go through the layer at once: whatever a block needs of the ones before it (their keys,
// values and states) follows from the layer's input alone. Only the states themselves are made one after the other.
AttentionBlock::Result AttentionBlock::operator()(const Tensor& x, const Tensor& memory, const Tensor& state,
                                                  int64_t block_width, const Tensor& rotary_table, Carry carry,
                                                  bool output) const {
  const int64_t B = x.dim(0), n = x.dim(1), W = block_width, blocks = (n + W - 1) / W;
  const Tensor h = norm(x);
  const Tensor kv = to_kv(h);  // (B, n, 2D)
  const auto block_kv = [&](int64_t block) { return narrow(kv, 1, block * W, std::min(W, n - block * W)); };
  Tensor seen;  // (B, n, H*D), in a layer with state (B, n, 2*H*D)
  if (output) seen = attn.window(to_q(h), kv, memory, W, rotary_table);

  Result result;
  if (state_container) {
    const StateContainer& s = *state_container;
    Tensor c = state ? state : s.initial();
    Tensors state_kv;  // of every block, (B, 1, S, 2D)
    for (int64_t block = 0; block < blocks; ++block) {
      const StateContainer::Prepared p = s.prepare(c);
      if (output) state_kv.push_back(reshape(repeat_batch(p.kv, B), {B, 1, p.kv.dim(1), p.kv.dim(2)}));
      if (carry == Carry::all || block + 1 < blocks) c = s.write(p, block_kv(block));
    }
    if (output) seen = concat({seen, s.read(h, concat(state_kv, 1), W)}, -1);
    result.state = c;
  }
  if (output) result.x = to_out(seen, x);
  if (carry != Carry::nothing) result.memory = block_kv(blocks - 1);
  return result;
}

}  // namespace rondo
