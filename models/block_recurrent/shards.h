// A training step with its batch cut into shards of some rows each. Of a small model, all at once: the work of one op
// is too small for several threads to pay, so each thread takes shards through the whole step, on tapes of its own, and
// the gradients are added up. Of a large batch, in turn: activations are there for one shard at a time, so they need no
// more memory in a larger batch.
#pragma once
#include <memory>
#include <vector>

#include "../../nn/module.h"
#include "trainer.h"

namespace rondo {

class Shards {
 public:
  struct Cut {
    int64_t shards = 1;
    bool in_turn = false;
    bool operator==(const Cut&) const = default;
  };
  // How the work is best cut, which depends on it alone, never on the number of threads. It stays whole on a GPU; where
  // a label is ignored (the mean over labels is then not the mean of the shards' means); and where an error should
  // speak of the whole batch: a token is outside the vocabulary, or check_finite is on.
  static Cut worthwhile(const RecurrentTrainer& trainer, const Tensor& tokens, const Tensor& labels);

  // RecurrentTrainer::run in shards, the same but for the order of sums; every label must count. grads gets the
  // gradients of `parameters`, the model's. Throws where there are fewer rows than shards, and what the trainer throws;
  // grads may hold parts of them then.
  RecurrentTrainer::Result run(const Cut& cut, const RecurrentTrainer& trainer, const Tensor& tokens,
                               const Tensor& labels, const Carried& carried, const RecurrentTrainer::Drops& drops,
                               const std::vector<NamedTensor>& parameters, Gradients& grads);

 private:
  struct Shard {
    MemoryPool pool{Device::cpu};  // at once: what a thread frees it takes again, not another one from far away
    Gradients grads;
    RecurrentTrainer::Result result;
  };
  std::vector<std::unique_ptr<Shard>> shards_;  // kept from step to step
};

}  // namespace rondo
