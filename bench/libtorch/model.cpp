#include "bench/libtorch/model.h"

namespace libtorch {
namespace {

namespace F = torch::nn::functional;

torch::nn::Linear linear(int64_t in, int64_t out, bool bias = false) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(bias));
}

Tensor rows(const Tensor& x, int64_t start, int64_t length) { return x.narrow(-2, start, length); }

KeyValue split_kv(const Tensor& kv) {
  const auto parts = kv.chunk(2, -1);
  return {parts[0], parts[1]};
}

}  // namespace

LayerNormImpl::LayerNormImpl(int64_t dim)
    : gamma(register_parameter("gamma", torch::ones(dim))), beta(register_buffer("beta", torch::zeros(dim))) {}
Tensor LayerNormImpl::forward(const Tensor& x) {
  return F::layer_norm(x, F::LayerNormFuncOptions({gamma.size(0)}).weight(gamma).bias(beta));
}

FeedForwardImpl::FeedForwardImpl(const BlockRecurrentConfig& c)
    : norm(register_module("0", LayerNorm(c.dim))),
      in(register_module("1", linear(c.dim, 2 * (c.dim * c.ff_mult * 2 / 3)))),
      out(register_module("3", linear(c.dim * c.ff_mult * 2 / 3, c.dim))) {}
Tensor FeedForwardImpl::forward(const Tensor& x) {
  const auto parts = in(norm(x)).chunk(2, -1);
  return x + out(F::gelu(parts[1]) * parts[0]);
}

StateContainerImpl::StateContainerImpl(const BlockRecurrentConfig& c)
    : heads(c.heads),
      state_norm(register_module("state_norm", LayerNorm(c.dim))),
      q_to_state(register_module("q_to_state", linear(c.dim, c.heads * c.dim_head))),
      q_from_state(register_module("q_from_state", linear(c.dim, c.heads * c.dim_head))),
      state_to_q(register_module("state_to_q", linear(c.dim, c.heads * c.dim_head))),
      state_to_kv(register_module("state_to_kv", linear(c.dim, 2 * c.dim_head))),
      to_state_out(register_module("to_state_out", linear(2 * c.heads * c.dim_head, c.dim))),
      state_out_to_gate(register_module("state_out_to_gate", linear(c.dim, c.dim, true))),
      init_state(register_parameter("init_state", torch::randn({c.n_state_vectors(), c.dim}))),
      state_pos_ids(register_parameter("state_pos_ids", torch::randn({c.n_state_vectors(), c.dim}))),
      learned_ema_beta(register_parameter("learned_ema_beta", torch::randn(c.dim))),
      to_state_cross_attn(register_module("to_state_cross_attn", Attention(c.dim_head, true))),
      state_self_attn(register_module("state_self_attn", Attention(c.dim_head, true))),
      from_state_cross_attn(register_module("from_state_cross_attn", Attention(c.dim_head, true))) {}

StateContainerImpl::Prepared StateContainerImpl::prepare(const Tensor& state) {
  const Tensor normed = state_norm(state) + state_pos_ids;
  return {state, normed, split_kv(state_to_kv(normed))};
}

Tensor StateContainerImpl::write(const Prepared& s, const KeyValue& block) {
  const auto read = [&](Attention& attn, torch::nn::Linear& to_q, const KeyValue& kv) {
    return attend(attn->queries(split_heads(to_q(s.normed), heads)), attn->keys(kv.k), kv.v);
  };
  const Tensor both =
      torch::cat({read(state_self_attn, state_to_q, s.kv), read(from_state_cross_attn, q_from_state, block)}, -1);
  const Tensor gate = learned_ema_beta.sigmoid();
  return gate * state_out_to_gate(to_state_out(merge_heads(both))) + (1 - gate) * s.state;
}

AttentionBlockImpl::AttentionBlockImpl(const BlockRecurrentConfig& c, bool recurrent)
    : heads(c.heads),
      block_width(c.block_width),
      norm(register_module("norm", LayerNorm(c.dim))),
      to_q(register_module("to_q", linear(c.dim, c.heads * c.dim_head))),
      to_kv(register_module("to_kv", linear(c.dim, 2 * c.dim_head))),
      to_out(register_module("to_out", linear((recurrent ? 2 : 1) * c.heads * c.dim_head, c.dim))),
      attn(register_module("attn", Attention(c.dim_head, recurrent || c.all_layers_qk_rmsnorm))) {
  if (recurrent) state_container = register_module("state_container", StateContainer(c));
}

AttentionBlockImpl::Result AttentionBlockImpl::forward(const Tensor& x, KeyValue memory, Tensor state,
                                                       const Rotary& rotary, const Tensor& mask) {
  const int64_t n = x.size(1), W = block_width;
  const Tensor h = norm(x), q = attn->queries(split_heads(to_q(h), heads));
  const KeyValue kv = split_kv(to_kv(h));
  Tensor state_q;
  if (state_container) {
    state_q = state_container->to_state_cross_attn->queries(split_heads(state_container->q_to_state(h), heads));
    if (!state.defined()) state = state_container->init_state.expand({x.size(0), -1, -1});
  }
  std::vector<Tensor> seen;  // by each block, (B, w, H*D) or (B, w, 2*H*D)
  for (int64_t start = 0; start < n; start += W) {
    const int64_t w = std::min(W, n - start), m = memory.k.defined() ? memory.k.size(1) : 0;
    const KeyValue own = {rows(kv.k, start, w), rows(kv.v, start, w)};
    const Tensor keys = attn->keys(m ? torch::cat({memory.k, own.k}, 1) : own.k);
    Tensor out =
        merge_heads(attend(rotary.queries(rows(q, start, w), W), rotary.keys(keys, W - m),
                           m ? torch::cat({memory.v, own.v}, 1) : own.v, mask.narrow(0, 0, w).narrow(1, W - m, m + w)));
    if (state_container) {
      const auto s = state_container->prepare(state);
      const Tensor read = attend(rows(state_q, start, w), state_container->to_state_cross_attn->keys(s.kv.k), s.kv.v);
      out = torch::cat({out, merge_heads(read)}, -1);
      state = state_container->write(s, own);
    }
    seen.push_back(out);
    memory = own;
  }
  return {x + to_out(torch::cat(seen, 1)), memory, state};
}

LayerImpl::LayerImpl(const BlockRecurrentConfig& c, bool recurrent)
    : attention(register_module("0", AttentionBlock(c, recurrent))),
      feed_forward(register_module("1", FeedForward(c))) {}

ModelImpl::ModelImpl(const BlockRecurrentConfig& c)
    : config(c),
      token_emb(register_module("token_emb", torch::nn::Embedding(c.num_tokens, c.dim))),
      final_norm(c.dim),
      head(linear(c.dim, c.num_tokens)),
      rotary(c.block_width, c.dim_head),
      mask(torch::full({c.block_width, 2 * c.block_width}, -INFINITY)) {
  const auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 1; i <= c.depth; ++i) list->push_back(layers.emplace_back(c, c.is_recurrent(i)));
  register_module("to_logits", torch::nn::Sequential(final_norm, head));
  mask = mask.triu(c.block_width + 1) + mask.tril();  // 0 < j - i <= W
}

ModelImpl::Result ModelImpl::forward(const Tensor& tokens, const Carried& carried) {
  Result result;
  Tensor x = token_emb(tokens);
  size_t n_states = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    AttentionBlock& attention = layers[i]->attention;
    Tensor state;
    if (attention->state_container && !carried.states.empty()) state = carried.states[n_states++];
    const auto r = attention(x, carried.memories.empty() ? KeyValue{} : carried.memories[i], state, rotary, mask);
    x = layers[i]->feed_forward(r.x);
    result.carried.memories.push_back({r.memory.k.detach(), r.memory.v.detach()});
    if (attention->state_container) result.carried.states.push_back(r.state.detach());
  }
  result.logits = head(final_norm(x));
  return result;
}

void ModelImpl::load(const std::vector<rondo::NamedTensor>& weights) {
  torch::NoGradGuard no_grad;
  auto all = named_parameters();
  for (auto& buffer : named_buffers()) all.insert(buffer.key(), buffer.value());
  rondo::check(all.size() == weights.size(), "there are ", weights.size(), " weights, but the model has ", all.size());
  for (const rondo::NamedTensor& w : weights) {
    Tensor* const t = all.find(w.name);
    rondo::check(t, "the model has no ", w.name);
    t->copy_(from_rondo(w.tensor));
  }
}

Tensor from_rondo(const rondo::Tensor& t) {
  const torch::ScalarType type = t.dtype() == rondo::DType::i64 ? torch::kInt64 : torch::kFloat32;
  rondo::check(t.dtype() == rondo::DType::i64 || t.dtype() == rondo::DType::f32, "a tensor is ", t.dtype());
  return torch::from_blob(t.bytes(), std::vector<int64_t>(t.shape().begin(), t.shape().end()), type).clone();
}

rondo::Tensor to_rondo(const Tensor& t) {
  rondo::Shape shape;
  for (int64_t d : t.sizes()) shape.push_back(d);
  const bool tokens = t.scalar_type() == torch::kInt64;
  const rondo::Tensor copy(shape, tokens ? rondo::DType::i64 : rondo::DType::f32);
  const Tensor source = t.detach().to(tokens ? torch::kInt64 : torch::kFloat32).contiguous();
  std::memcpy(copy.bytes(), source.data_ptr(), copy.n_bytes());
  return copy;
}

}  // namespace libtorch
