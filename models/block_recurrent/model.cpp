#include "models/block_recurrent/model.h"

namespace rondo {

Carried detach(const Carried& c) {
  return mapped(c, [](const Tensor& t) { return detach(t); });
}
Carried to(const Carried& c, Device device) {
  return mapped(c, [&](const Tensor& t) { return to(t, device); });
}

Tensor to_xl_memory(const Tensor& memory) {
  const int64_t B = memory.dim(0), w = memory.dim(1), D = memory.dim(2) / 2;
  return permute(reshape(memory, {B, w, 2, D}), {2, 0, 1, 3});
}
Tensor from_xl_memory(const Tensor& m) {
  check(m.rank() == 4 && m.dim(0) == 2, "a memory has shape ", m.shape(), ", but must be [2, batch, width, dim_head]");
  return reshape(permute(m, {1, 2, 0, 3}), {m.dim(1), m.dim(2), 2 * m.dim(3)});
}

void check_carried(const BlockRecurrentConfig& c, int64_t batch, const Carried& carried) {
  const int64_t n_states = c.n_recurrent();
  check(carried.memories.empty() || int64_t(carried.memories.size()) == c.depth, "model: ", carried.memories.size(),
        " memories were given, but there are ", c.depth, " layers");
  check(carried.states.empty() || int64_t(carried.states.size()) == n_states, "model: ", carried.states.size(),
        " states were given, but there are ", n_states, " recurrent layers");
  for (const Tensor& m : carried.memories)
    check(!m || (m.rank() == 3 && m.dim(0) == batch && m.dim(1) <= c.block_width && m.dim(2) == 2 * c.dim_head),
          "model: a memory has shape ", m ? m.shape() : Shape{}, ", but the model and its tokens ask for (", batch,
          ", at most ", c.block_width, ", ", 2 * c.dim_head, ")");
  const Shape state = {batch, c.n_state_vectors(), c.dim};
  for (const Tensor& t : carried.states)
    check(!t || t.shape() == state, "model: a state has shape ", t ? t.shape() : Shape{},
          ", but the model and its tokens ask for ", state);
}

namespace {
// Checked before anything that depends on it is made.
const BlockRecurrentConfig& valid(const BlockRecurrentConfig& c) {
  c.validate();
  return c;
}
}  // namespace

BlockRecurrentTransformer::BlockRecurrentTransformer(const BlockRecurrentConfig& c, Generator& g, DType dtype)
    : config(valid(c)),
      dtype(dtype),
      token_emb(c.num_tokens, c.dim, g, dtype),
      final_norm(c.dim, dtype),
      head(c.dim, c.num_tokens, false, g, dtype),
      rotary(rotary_table(c.block_width, c.dim_head, dtype)) {
  for (int64_t layer = 1; layer <= c.depth; ++layer) {
    AttentionBlock attention(c, c.is_recurrent(layer), g, dtype);
    layers.push_back({std::move(attention), FeedForward(c.dim, c.ff_mult, g, dtype)});
  }
}

void BlockRecurrentTransformer::to(Device device) {
  check_usable(device);
  move_to(*this, device);
  rotary = rondo::to(rotary, device);
}

BlockRecurrentTransformer::Result BlockRecurrentTransformer::operator()(const Tensor& tokens, const Carried& carried,
                                                                        bool return_carried) const {
  const bool full = tokens.rank() == 2 && tokens.dim(1) == config.max_seq_len;
  Hidden h = hidden(tokens, carried, return_carried || full ? Carry::all : Carry::nothing);
  return {head(final_norm(h.x)), std::move(h.carried)};
}

BlockRecurrentTransformer::Hidden BlockRecurrentTransformer::hidden(const Tensor& tokens, const Carried& carried,
                                                                    Carry carry, bool last_layer) const {
  check(tokens.rank() == 2 && tokens.dim(1) >= 1 && tokens.dim(1) <= config.max_seq_len, "model: tokens have shape ",
        tokens.shape(), ", but must be [batch, 1 to max_seq_len = ", config.max_seq_len, "]");
  check_carried(config, tokens.dim(0), carried);
  Hidden result{token_emb(tokens), {}};
  size_t state = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const AttentionBlock& attention = layers[i].attention;
    const Tensor memory = carried.memories.empty() ? Tensor() : carried.memories[i];
    const bool recurrent = attention.state_container.has_value();
    const Tensor before = recurrent && !carried.states.empty() ? carried.states[state++] : Tensor();
    const bool output = last_layer || i + 1 < layers.size();
    AttentionBlock::Result r = attention(result.x, memory, before, config.block_width, rotary, carry, output);
    if (output) result.x = layers[i].feed_forward(r.x);
    if (carry == Carry::nothing) continue;
    result.carried.memories.push_back(r.memory);
    if (recurrent) result.carried.states.push_back(r.state);
  }
  return result;
}

}  // namespace rondo
