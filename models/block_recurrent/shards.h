// A training step of a small model, its batch shared out: the work of one op is too small for several threads to pay,
// so each thread takes some rows through the whole step, on a tape of its own, and the gradients are added up.
#pragma once
#include <memory>
#include <vector>

#include "models/block_recurrent/trainer.h"
#include "nn/module.h"

namespace rondo {

class Shards {
 public:
  // How many shards the trainer's work is best cut into, which depends on it alone, never on the number of threads. One
  // where its ops are large enough to share out; where a label does not count (the mean over labels is then not that of
  // the shards' means); where an error should speak of the whole batch: a token is none of the model's, or every result
  // is looked at; on a GPU.
  static int64_t worthwhile(const RecurrentTrainer& trainer, const Tensor& tokens, const Tensor& labels);

  // RecurrentTrainer::run in that many shards, the same but for the order of sums; every label must count. grads gets
  // the gradients of `parameters`, the model's. Throws where there are fewer rows than shards, and what the trainer
  // throws.
  RecurrentTrainer::Result run(int64_t shards, const RecurrentTrainer& trainer, const Tensor& tokens,
                               const Tensor& labels, const Carried& carried, const RecurrentTrainer::Drops& drops,
                               const std::vector<NamedTensor>& parameters, Gradients& grads);

 private:
  struct Shard {
    MemoryPool pool{Device::cpu};  // what a thread frees it takes again, not another one from far away
    Gradients grads;
    RecurrentTrainer::Result result;
  };
  std::vector<std::unique_ptr<Shard>> shards_;  // kept from step to step
};

}  // namespace rondo
