// Which bytes of the training text a step sees.
#pragma once
#include <string_view>
#include <vector>

#include "apps/config.h"
#include "tensor/random.h"

namespace rondo {

// Where the batches are: the whole state, saved in every checkpoint.
struct BatchState {
  Generator generator;
  std::vector<int64_t> rows;  // in document order: where each row goes on
};

class Batches {
 public:
  // Throws where the text is too short for one row.
  Batches(std::string_view text, const RunConfig& config);

  struct Batch {
    Tensor tokens;   // [batch_size, segments * max_seq_len + 1] i64
    bool continues;  // the rows go on where those of the step before ended
  };
  Batch next(int64_t step);

  BatchState& state() { return state_; }

 private:
  std::string_view text_;
  bool document_;
  int64_t jump_every_, n_;  // n_: bytes that a row moves on in a step
  BatchState state_;
};

}  // namespace rondo
