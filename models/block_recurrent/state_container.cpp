#include "models/block_recurrent/state_container.h"

namespace rondo {

StateContainer::StateContainer(const BlockRecurrentConfig& c, Generator& g, DType dtype)
    : state_norm(c.dim, dtype),
      q_to_state(c.dim, c.heads * c.dim_head, false, g, dtype),
      q_from_state(c.dim, c.heads * c.dim_head, false, g, dtype),
      state_to_q(c.dim, c.heads * c.dim_head, false, g, dtype),
      state_to_kv(c.dim, 2 * c.dim_head, false, g, dtype),
      to_state_out(2 * c.heads * c.dim_head, c.dim, false, g, dtype),
      state_out_to_gate(c.dim, c.dim, true, g, dtype) {
  const Attention::Options how = {.qk_rmsnorm = true, .qk_norm_scale = c.qk_norm_scale};
  to_state_cross_attn = Attention(c.dim_head, how, dtype);
  state_self_attn = Attention(c.dim_head, how, dtype);
  from_state_cross_attn = Attention(c.dim_head, how, dtype);

  const double std = c.init == "0.4" ? 0.1 : 1;
  const std::array<double, 2> beta = c.ema_beta_init.value_or(std::array<double, 2>{0, std});
  init_state = normal_init({c.n_state_vectors(), c.dim}, 0, std, g, dtype);
  state_pos_ids = normal_init({c.n_state_vectors(), c.dim}, 0, 1, g, dtype);
  learned_ema_beta = normal_init({c.dim}, beta[0], beta[1], g, dtype);
}

Tensor repeat_batch(const Tensor& x, int64_t batch) {
  return x.dim(0) == batch ? x : broadcast_to(x, x.shape().with(0, batch));
}

Tensor StateContainer::initial() const { return reshape(init_state, {1, init_state.dim(0), init_state.dim(1)}); }

StateContainer::Prepared StateContainer::prepare(const Tensor& state) const {
  const Tensor normed = cast(state_norm(state) + state_pos_ids, compute.value_or(state.dtype()));
  return {state, normed, state_to_kv(normed)};
}

Tensor StateContainer::read(const Tensor& x, const Tensor& kv, int64_t block_width) const {
  return to_state_cross_attn.groups(q_to_state(x), kv, block_width);
}

Tensor StateContainer::write(const Prepared& s, const Tensor& block_kv) const {
  const int64_t B = block_kv.dim(0), S = s.state.dim(1);
  const auto one_group = [](const Tensor& kv) { return reshape(kv, {kv.dim(0), 1, kv.dim(1), kv.dim(2)}); };
  const Tensor from_states =
      repeat_batch(state_self_attn.groups(state_to_q(s.normed), one_group(s.kv), S), B);  // (B, S, H*D)
  const Tensor queries = repeat_batch(q_from_state(s.normed), B);
  const Tensor from_block = from_state_cross_attn.groups(queries, one_group(block_kv), S);  // (B, S, H*D)

  // Joined head by head, as the reference does; what tokens read is joined row by row.
  const int64_t D = s.kv.dim(2) / 2, H = from_states.dim(2) / D;
  const auto heads = [&](const Tensor& x) { return reshape(x, {B, S, H, D}); };
  const Tensor both = reshape(concat({heads(from_states), heads(from_block)}, -1), {B, S, 2 * H * D});
  return state_gate(repeat_batch(s.state, B), state_out_to_gate(to_state_out(both)), learned_ema_beta);
}

}  // namespace rondo
