#include "apps/batches.h"

#include <algorithm>

#include "apps/streams.h"
#include "tensor/check.h"

namespace rondo {

Batches::Batches(const Text& text, const RunConfig& config)
    : text_(text),
      document_(config.train.order == "document"),
      jump_every_(config.train.jump_every),
      n_(config.train.segments * config.model.max_seq_len),
      state_{{uint64_t(config.train.seed), stream::data, 0}, {}} {
  const int64_t size = text.size(), batch = config.train.batch_size;
  check(size > n_, "the text to train on has ", size, text.in_bytes() ? " bytes" : " tokens", ", but a step reads ",
        n_ + 1, " in a row (train.segments ", config.train.segments, " x model.max_seq_len ", config.model.max_seq_len,
        " + 1)");
  for (int64_t b = 0; b < batch; ++b) state_.rows.push_back(size / batch * b);
}

Batches::Batch Batches::next(int64_t step) {
  const int64_t size = text_.size(), batch = int64_t(state_.rows.size());
  const bool jumps = document_ && jump_every_ > 0 && step > 0 && step % jump_every_ == 0;
  Tensor tokens({batch, n_ + 1}, DType::i64);
  int64_t* out = tokens.data<int64_t>();
  for (int64_t& row : state_.rows) {
    if (jumps) row = state_.generator.below(size);
    const int64_t begin = document_ ? row : state_.generator.below(size - n_);
    // In document order a row that reaches the end of the text goes on at its beginning.
    const Tensor read = text_.row(begin, n_ + 1);
    out = std::copy_n(read.data<int64_t>(), n_ + 1, out);
    if (document_) row = (row + n_) % size;
  }
  return {tokens, document_ && step > 0 && !jumps};
}

void Batches::go_on_from(const BatchState& state, const std::string& name) {
  for (const int64_t row : state.rows)
    check(row < text_.size(), name, ": a row that goes on at ", row, " is outside the text of ", text_.size());
  state_ = state;
}

}  // namespace rondo
