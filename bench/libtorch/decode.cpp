#include "bench/libtorch/decode.h"

namespace libtorch {

Tensor SegmentDecoder::next(const Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  segment_ = segment_.defined() ? torch::cat({segment_, tokens}, 1) : tokens;
  rondo::check(segment_.size(1) <= model_->config.max_seq_len, "the reference takes a prompt of at most a segment, ",
               model_->config.max_seq_len, " tokens");
  ModelImpl::Result result = model_(segment_, carried_);
  if (segment_.size(1) == model_->config.max_seq_len) carried_ = result.carried, segment_ = Tensor();
  return result.logits.select(1, -1).argmax(-1);
}

CachedDecoder::CachedDecoder(Model model, int64_t batch) : model_(std::move(model)), caches_(model_->layers.size()) {
  const torch::NoGradGuard no_grad;
  const int64_t W = model_->config.block_width, D = model_->config.dim_head;
  for (size_t i = 0; i < caches_.size(); ++i) {
    caches_[i].rotated = torch::empty({batch, 2 * W, D});
    caches_[i].v = torch::empty({batch, 2 * W, D});
    caches_[i].raw_k = torch::empty({batch, W, D});
    if (StateContainer& s = model_->layers[i]->attention->state_container)
      prepare_state(i, s->init_state.expand({batch, -1, -1}));
  }
}

void CachedDecoder::prepare_state(size_t layer, const Tensor& state) {
  StateContainer& s = model_->layers[layer]->attention->state_container;
  caches_[layer].state = s->prepare(state);
  caches_[layer].state_keys = s->to_state_cross_attn->keys(caches_[layer].state.kv.k);
}

Tensor CachedDecoder::next(const Tensor& tokens) {
  const torch::NoGradGuard no_grad;
  Tensor x;
  for (int64_t i = 0; i < tokens.size(1); ++i) {
    x = model_->token_emb(tokens.narrow(1, i, 1));
    for (size_t layer = 0; layer < caches_.size(); ++layer) {
      AttentionBlock& a = model_->layers[layer]->attention;
      x = model_->layers[layer]->feed_forward(x + a->to_out(attend_to(layer, a->norm(x))));
    }
    if (++filled_ == model_->config.block_width) finish_block();
  }
  return model_->head(model_->final_norm(x)).select(1, -1).argmax(-1);
}

// h (B, 1, d), one token -> (B, 1, H*D) or (B, 1, 2*H*D)
Tensor CachedDecoder::attend_to(size_t layer, const Tensor& h) {
  AttentionBlock& a = model_->layers[layer]->attention;
  Cache& c = caches_[layer];
  const int64_t W = model_->config.block_width, position = W + filled_;
  const auto kv = a->to_kv(h).chunk(2, -1);
  c.raw_k.narrow(1, filled_, 1).copy_(kv[0]);
  c.rotated.narrow(1, position, 1).copy_(model_->rotary.keys(a->attn->keys(kv[0]), position));
  c.v.narrow(1, position, 1).copy_(kv[1]);

  const Tensor q = model_->rotary.queries(a->attn->queries(split_heads(a->to_q(h), a->heads)), position);
  const int64_t first = has_memory_ ? filled_ + 1 : W, n = position + 1 - first;
  const Tensor out = merge_heads(attend(q, c.rotated.narrow(1, first, n), c.v.narrow(1, first, n)));
  if (!a->state_container) return out;
  StateContainer& s = a->state_container;
  const Tensor state_q = s->to_state_cross_attn->queries(split_heads(s->q_to_state(h), a->heads));
  return torch::cat({out, merge_heads(attend(state_q, c.state_keys, c.state.kv.v))}, -1);
}

// The block's keys and values become the memory, one block further back, and the states are written.
void CachedDecoder::finish_block() {
  const int64_t W = model_->config.block_width;
  for (size_t i = 0; i < caches_.size(); ++i) {
    AttentionBlock& a = model_->layers[i]->attention;
    Cache& c = caches_[i];
    const Tensor own_v = c.v.narrow(1, W, W);
    if (a->state_container) prepare_state(i, a->state_container->write(c.state, {c.raw_k, own_v}));
    c.rotated.narrow(1, 0, W).copy_(model_->rotary.keys(a->attn->keys(c.raw_k), 0));
    c.v.narrow(1, 0, W).copy_(own_v);
  }
  filled_ = 0;
  has_memory_ = true;
}

}  // namespace libtorch
