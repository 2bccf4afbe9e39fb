// A training step as a whole: segments, gradients, clipping, Adam. On a GPU, a step that comes again is captured as one
// graph, and from then on replayed: copies of what comes in, and one launch. With several ranks, each has some rows of
// the batch, and all make one step.
#pragma once
#include <memory>
#include <vector>

#include "../../autograd/rounded.h"
#include "../../nn/optimizer.h"
#include "../../tensor/graph.h"
#include "shards.h"
#include "trainer.h"

namespace rondo {

class Communicator;  // tensor/communicator.h

class TrainingStep {
 public:
  // The model, the optimizer and the ranks must outlive it, and stay where they are. With `graphs` false nothing is
  // captured. Ranks that begin with the same weights keep them the same, bit for bit. With a micro_batch_size so many
  // rows go through at a time, and a step needs memory for those alone (Shards); all at once where a label is ignored,
  // which those on a GPU must not be, as nobody looks at them there.
  TrainingStep(const RecurrentTrainer& trainer, Adam& adam, bool graphs = true, Communicator* ranks = nullptr,
               int64_t micro_batch_size = 0);
  ~TrainingStep();

  struct Result : RecurrentTrainer::Result {
    Tensor norm;  // of the gradients, before clipping; where it is not finite, the step changed nothing
  };
  // Arguments as RecurrentTrainer has them, and with several ranks this one's rows; losses and norm are then those of
  // the whole batch, of which each rank has as many rows, and g must be at the same place in each. What comes out is
  // there until the next step, which may overwrite it. When it throws, g is where it was, and unless the optimizer was
  // at work, weights and moments are too.
  //
  // Captured is what comes a second time with the same shapes and the same memories and states there or dropped: a
  // variant. There is room for kMostVariants; those that come later run as the first step did, to the same bits. An
  // error while a step is captured is that step's error, as it would be without; the next step of its kind tries again.
  Result operator()(const Tensor& tokens, const Tensor& labels, const Carried& carried, Generator& g);
  static constexpr size_t kMostVariants = 16;

  int64_t captured() const;  // variants, so far

 private:
  struct Variant;
  using Drops = RecurrentTrainer::Drops;
  Result step(const Tensor& tokens, const Tensor& labels, const Carried& carried, const Drops& drops);
  Result run(const Tensor& tokens, const Tensor& labels, const Carried& carried, const Drops& drops);
  void capture(Variant& v, const Tensor& tokens, const Carried& carried, const Drops& drops);
  bool sound(const Tensor& tokens, const Tensor& labels) const;

  RecurrentTrainer trainer_;
  Adam& adam_;
  bool graphs_;
  Communicator* ranks_;
  int64_t micro_batch_size_;
  Gradients grads_;
  WeightCopies copies_;
  Shards shards_;
  std::shared_ptr<MemoryPool> pool_;
  std::vector<std::unique_ptr<Variant>> variants_;
};

}  // namespace rondo
