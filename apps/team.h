// Training in several processes, a GPU each: what each has of a batch, and how they keep together.
#pragma once
#include <memory>
#include <string>

#include "apps/config.h"
#include "apps/corpus.h"
#include "models/block_recurrent/model.h"
#include "tensor/communicator.h"

namespace rondo {

// Every rank draws the whole batch and takes its rows, so that what is trained on does not depend on how many there
// are: a run goes on with another number of ranks. Rank 0 alone prints and writes.
class Team {
 public:
  // As the environment has it (ranks_of_environment); without, a team of one. Waits for the others, which must train
  // the same configuration on the same text from the same step on. Throws Error with one line. Comes before all work on
  // a GPU. When another rank fails or is gone, this process says so and exits.
  Team(const RunConfig& config, const Fingerprint& text, int64_t step);

  Communicator* ranks() const { return ranks_.get(); }  // null in a team of one
  bool first() const { return rank_ == 0; }
  int64_t size() const { return size_; }

  // This rank's rows of something that all have whole, and back: needed by one, made by all together.
  Tensor share(const Tensor& whole) const;
  Carried share(const Carried& whole) const;
  Carried gather(const Carried& shares) const;
  // Whether it is so at any rank.
  bool any(bool here) const { return ranks_ ? ranks_->any(here) : here; }

  // This rank is done; or it fails, and the others are told why.
  void finish();
  void give_up(const std::string& why);

 private:
  std::unique_ptr<Communicator> ranks_;
  int64_t rank_ = 0, size_ = 1;
};

}  // namespace rondo
