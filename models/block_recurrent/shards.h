// A training step with its batch cut into shards of some rows each. Of a small model, all at once: the work of one op
// is too small for several threads to pay, so each thread takes shards through the whole step, on tapes of its own, and
// the gradients are added up. Of a large batch, in turn: activations are there for one shard at a time, so they need no
// more memory in a larger batch.
#pragma once
#include <vector>

#include "../../nn/data_parallel.h"
#include "trainer.h"

namespace rondo {

class Shards {
 public:
  // The model's parameters.
  explicit Shards(std::vector<NamedTensor> parameters) : parallel_(std::move(parameters)) {}

  struct Cut {
    int64_t shards = 1;
    bool in_turn = false;
    bool operator==(const Cut&) const = default;
  };
  // How a batch is cut. Into parts of at most micro_batch_size rows, in turn; where that is 0, or the batch no larger,
  // as is best: which depends on the work alone, never on the number of threads, and on a GPU is to leave it whole.
  // It always stays whole where a label is ignored (the mean over labels is then not the mean of the parts' means; of
  // labels on a GPU, where nobody looks, all must count); and where an error should speak of the whole batch: a token
  // is outside the vocabulary, or check_finite is on.
  static Cut cut(const RecurrentTrainer& trainer, const Tensor& tokens, const Tensor& labels,
                 int64_t micro_batch_size = 0);

  // RecurrentTrainer::run in shards, the same but for the order of sums; every label must count. grads gets the
  // gradients of the parameters; `ready` is called in the last of the shards that go in turn. Throws where
  // there are fewer rows than shards, and what the trainer throws; grads may hold parts of them then.
  RecurrentTrainer::Result run(const Cut& cut, const RecurrentTrainer& trainer, const Tensor& tokens,
                               const Tensor& labels, const Carried& carried, const RecurrentTrainer::Drops& drops,
                               Gradients& grads, const Tape::Ready& ready = {});

 private:
  static Cut worthwhile(const BlockRecurrentTransformer& model, const Tensor& tokens);

  DataParallel parallel_;                          // at once
  std::vector<RecurrentTrainer::Result> results_;  // then kept to the next step: who made one gives it back
};

}  // namespace rondo
