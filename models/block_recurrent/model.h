// The block-recurrent transformer (Hutchins et al. 2022), number by number as block-recurrent-transformer-pytorch
// 0.3.2.
#pragma once
#include <vector>

#include "../../nn/module.h"
#include "attention_block.h"

namespace rondo {

// What flows from one segment to the next. Empty tensors (or empty vectors) stand for "none": no keys in front, and the
// learned initial state.
struct Carried {
  Tensors memories;  // per layer, (B, w, 2D): keys and values of the last block
  Tensors states;    // per recurrent layer, (B, S, d)
};
// f of every tensor; where there is none, none.
template <class F>
Carried mapped(const Carried& c, F&& f) {
  Carried made;
  for (const Tensor& t : c.memories) made.memories.push_back(t ? f(t) : t);
  for (const Tensor& t : c.states) made.states.push_back(t ? f(t) : t);
  return made;
}
// Throws where they do not fit the model and its batch.
void check_carried(const BlockRecurrentConfig& c, int64_t batch, const Carried& carried);
// Cuts the carried tensors off their tape.
Carried detach(const Carried& c);
// The same on another device.
Carried to(const Carried& c, Device device);

// The reference's layout of a memory, [2, B, w, D] (keys, then values), as files and PyTorch have it; and back.
Tensor to_xl_memory(const Tensor& memory);
Tensor from_xl_memory(const Tensor& xl_memory);

struct BlockRecurrentTransformer {
  BlockRecurrentConfig config;
  DType dtype = DType::f32;
  Embedding token_emb;
  struct Layer {
    AttentionBlock attention;
    FeedForward feed_forward;
  };
  std::vector<Layer> layers;
  LayerNorm final_norm;
  Linear head;    // d -> V
  Tensor rotary;  // the table of positions, a constant

  // Fresh parameters, drawn from g.
  BlockRecurrentTransformer(const BlockRecurrentConfig& config, Generator& g, DType dtype = DType::f32);

  // A fresh model is on the CPU. Make optimizers and decoders after the move: they hold the tensors they found.
  void to(Device device);
  Device device() const { return rotary.device(); }

  struct Result {
    Tensor logits;  // (B, n, V)
    Carried carried;
  };
  // tokens [B, n] i64 on any device, 1 <= n <= max_seq_len. A full segment returns what to carry on; a shorter one only
  // when asked (`return_carried`): then its last, partial block's keys and values as they are, and the state written
  // from it.
  Result operator()(const Tensor& tokens, const Carried& carried = {}, bool return_carried = false) const;
  // The same without the head: x (B, n, d), of which head(final_norm(x)) makes the logits. Without the last layer, of
  // which only what is carried is made, x is its input.
  struct Hidden {
    Tensor x;
    Carried carried;
  };
  Hidden hidden(const Tensor& tokens, const Carried& carried, Carry carry, bool last_layer = true) const;

  // The names of the reference's state dict.
  template <class F>
  void each(F&& f) {
    each_in("token_emb.", token_emb, f);
    for (size_t i = 0; i < layers.size(); ++i) {
      each_in("layers." + std::to_string(i) + ".0.", layers[i].attention, f);
      each_in("layers." + std::to_string(i) + ".1.", layers[i].feed_forward, f);
    }
    each_in("to_logits.0.", final_norm, f);
    each_in("to_logits.1.", head, f);
  }
};

}  // namespace rondo
