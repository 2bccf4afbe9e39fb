// Training over several segments of a stream: memories and states are carried from one to the next, gradients are not.
#pragma once
#include "../../autograd/tape.h"
#include "model.h"

namespace rondo {

struct RecurrentTrainer {
  const BlockRecurrentTransformer& model;
  double xl_memories_dropout = 0;  // probability to start a segment without memories, one draw for the whole batch
  double state_dropout = 0;        // the same for states
  TapeOptions tape_options = {};

  struct Result {
    Tensor losses;        // [m], of each segment the mean over its labels, in nats; on the model's device
    Carried carried;      // after the last segment, detached
    double loss() const;  // their mean; reads them, which makes the host wait for a GPU
  };
  // tokens [B, m*N] i64 and labels of the same shape, on any device, m >= 1 segments of N = max_seq_len (the last may
  // be shorter). Each segment's tape is played, into grads, before the next segment's forward pass: only one segment is
  // alive at a time. g decides the dropouts.
  Result operator()(const Tensor& tokens, const Tensor& labels, const Carried& carried, Generator& g,
                    Gradients& grads) const {
    return run(tokens, labels, carried, draw(tokens, labels, g), grads);
  }

  // Its two halves. What each of the m segments starts without, then the work itself.
  struct Drop {
    bool memories, states;
  };
  using Drops = std::vector<Drop, PoolAllocator<Drop>>;
  Drops draw(const Tensor& tokens, const Tensor& labels, Generator& g) const;
  // `ready` as Tape::backward has it, in the last segment alone: a gradient is whole there. The gradients are those of
  // `weight` times the mean of the losses.
  Result run(const Tensor& tokens, const Tensor& labels, const Carried& carried, const Drops& drops, Gradients& grads,
             const Tape::Ready& ready = {}, double weight = 1) const;
};

// [B, n + 1] -> inputs [B, n] and the tokens that follow them [B, n].
std::pair<Tensor, Tensor> inputs_and_labels(const Tensor& tokens);

}  // namespace rondo
