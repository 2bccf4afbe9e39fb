// The block-recurrent transformer written for LibTorch, as its users write models: modules with registered parameters,
// under the names of the reference's state dict. Layer by layer over the whole segment, as Rondo does it, so that what
// is compared is the libraries and not the order of the work.
//
// Letters: B batch, n tokens, W block width, S state vectors, d dim, H heads, D dim_head.
#pragma once
#include <torch/torch.h>
#include <torch/version.h>

#include "models/block_recurrent/config.h"
#include "nn/module.h"

namespace libtorch {

using rondo::BlockRecurrentConfig;
using torch::Tensor;

// Which attention this LibTorch has.
#if TORCH_VERSION_MAJOR >= 2
inline constexpr const char* kAttention = "fused (scaled_dot_product_attention)";
#else
inline constexpr const char* kAttention = "composed (no fused attention before LibTorch 2.0)";
#endif

// Multi-query attention: q (B, H, n, D); k, v (B, m, D); mask (n, m), added to the scores, or {} -> (B, H, n, D).
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask = {});
Tensor split_heads(const Tensor& x, int64_t heads);  // (B, n, H*D) -> (B, H, n, D)
Tensor merge_heads(const Tensor& x);                 // and back

struct KeyValue {
  Tensor k, v;  // (B, m, D); undefined where there is none
};

struct LayerNormImpl : torch::nn::Module {
  Tensor gamma, beta;
  explicit LayerNormImpl(int64_t dim);
  Tensor forward(const Tensor& x);
};
TORCH_MODULE(LayerNorm);

struct FeedForwardImpl : torch::nn::Module {
  LayerNorm norm;
  torch::nn::Linear in, out;
  explicit FeedForwardImpl(const BlockRecurrentConfig& c);
  Tensor forward(const Tensor& x);  // the residual included
};
TORCH_MODULE(FeedForward);

// The learned scales of queries and keys, and rotary positions with xPos.
struct AttentionImpl : torch::nn::Module {
  Tensor q_scale, k_scale;  // [D], or undefined: not normalised
  AttentionImpl(int64_t dim_head, bool qk_norm);
  Tensor queries(const Tensor& q) const;
  Tensor keys(const Tensor& k) const;
};
TORCH_MODULE(Attention);

struct Rotary {
  Tensor q_cos, q_sin, k_cos, k_sin;  // [2W, D], the xPos scale included
  Rotary(int64_t block_width, int64_t dim_head);
  Tensor queries(const Tensor& q, int64_t first) const;  // row i of q has position first + i
  Tensor keys(const Tensor& k, int64_t first) const;
};

struct StateContainerImpl : torch::nn::Module {
  int64_t heads;
  LayerNorm state_norm;
  torch::nn::Linear q_to_state, q_from_state, state_to_q, state_to_kv, to_state_out, state_out_to_gate;
  Tensor init_state, state_pos_ids, learned_ema_beta;
  Attention to_state_cross_attn, state_self_attn, from_state_cross_attn;
  explicit StateContainerImpl(const BlockRecurrentConfig& c);

  struct Prepared {
    Tensor state, normed;  // (B, S, d)
    KeyValue kv;           // (B, S, D)
  };
  Prepared prepare(const Tensor& state);
  Tensor write(const Prepared& s, const KeyValue& block);  // -> (B, S, d)
};
TORCH_MODULE(StateContainer);

struct AttentionBlockImpl : torch::nn::Module {
  int64_t heads, block_width;
  LayerNorm norm;
  torch::nn::Linear to_q, to_kv, to_out;
  Attention attn;
  StateContainer state_container{nullptr};  // in recurrent layers
  AttentionBlockImpl(const BlockRecurrentConfig& c, bool recurrent);

  struct Result {
    Tensor x;
    KeyValue memory;  // of the last block
    Tensor state;
  };
  Result forward(const Tensor& x, KeyValue memory, Tensor state, const Rotary& rotary, const Tensor& mask);
};
TORCH_MODULE(AttentionBlock);

struct LayerImpl : torch::nn::Module {
  AttentionBlock attention;
  FeedForward feed_forward;
  LayerImpl(const BlockRecurrentConfig& c, bool recurrent);
};
TORCH_MODULE(Layer);

struct Carried {
  std::vector<KeyValue> memories;  // per layer
  std::vector<Tensor> states;      // per recurrent layer
};

struct ModelImpl : torch::nn::Module {
  BlockRecurrentConfig config;
  torch::nn::Embedding token_emb;
  std::vector<Layer> layers;
  LayerNorm final_norm;
  torch::nn::Linear head;
  Rotary rotary;
  Tensor mask;  // [W, 2W]: 0 where key j of memory ++ own is visible from query i, else -infinity
  explicit ModelImpl(const BlockRecurrentConfig& c);

  struct Result {
    Tensor logits;
    Carried carried;  // cut off the graph
  };
  Result forward(const Tensor& tokens, const Carried& carried = {});
  // Copies weights of the same names; throws where one is missing.
  void load(const std::vector<rondo::NamedTensor>& weights);
};
TORCH_MODULE(Model);

Tensor from_rondo(const rondo::Tensor& t);  // a copy
rondo::Tensor to_rondo(const Tensor& t);    // a copy

}  // namespace libtorch
