// Which tokens of the training text a step sees.
#pragma once
#include <vector>

#include "apps/config.h"
#include "apps/tokenizer.h"
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
  Batches(const Text& text, const RunConfig& config);

  struct Batch {
    Tensor tokens;   // [batch_size, segments * max_seq_len + 1] i64
    bool continues;  // the rows go on where those of the step before ended
  };
  Batch next(int64_t step);

  const BatchState& state() const { return state_; }
  // Throws where it belongs to another text; `name` is that of where it was read.
  void go_on_from(const BatchState& state, const std::string& name);

 private:
  const Text& text_;
  bool document_;
  int64_t jump_every_, n_;  // n_: tokens that a row moves on in a step
  BatchState state_;
};

}  // namespace rondo
