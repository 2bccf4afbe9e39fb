// Processes that train together, each with a GPU of its own: what they add up between them.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "ranks.h"
#include "tensor.h"

namespace rondo {

// The tensors lie on the GPU; every rank must ask for the same things in the same order. May be captured in a Graph.
class Communicator {
 public:
  // Picks this rank's GPU, so it comes before all other work on one, and waits for the other ranks. `purpose` and
  // `lost` as Peers has them. Throws Error with one line: no GPU of that number, no NCCL, ranks that do not come.
  Communicator(const Ranks& ranks, const std::string& purpose, Peers::Lost lost);

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Each tensor becomes its mean over all ranks, in place; nobody may write to it or read it until wait().
  void begin_mean(std::span<const Tensor> tensors);
  void wait();
  // A tensor becomes its sum over all ranks, in place.
  void sum(const Tensor& tensor);
  // Whether it is so at any rank: all get the same answer.
  bool any(bool here);

  // The work is done: waits for what was begun. Nothing may be asked for afterwards.
  void finish();
  // Tells the others why this rank ends.
  void give_up(const std::string& why);
  // After finish() leaves the others in peace; without, what was begun is broken off, since they may never come to it.
  // Graphs that sums were captured in, as a TrainingStep's are, must be gone before: NCCL waits for that, and may wait
  // for the other ranks of a machine, so this should not come long after finish().
  ~Communicator() = default;
  Communicator(const Communicator&) = delete;

 private:
  int rank_, size_;
  Peers peers_;
  std::shared_ptr<void> group_;
};

}  // namespace rondo
