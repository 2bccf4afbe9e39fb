// Incremental decoding, exact: keys, values and states are kept, so a token costs one pass over the weights instead of
// a forward pass over its block. Rows of a batch may stand at different places.
#pragma once
#include <span>
#include <vector>

#include "models/block_recurrent/model.h"

namespace rondo {

class Decoder {
 public:
  // `batch` empty sequences. The model must outlive the decoder.
  Decoder(const BlockRecurrentTransformer& model, int64_t batch);

  // Feeds a row as many tokens as one likes ([n] i64, n >= 1), whole blocks at a time. Returns the logits [V] of what
  // follows them.
  Tensor prefill(int64_t row, const Tensor& tokens);
  // Feeds every row its next token ([B] i64). Returns the logits [B, V] of what follows.
  Tensor step(const Tensor& tokens);

  int64_t batch() const { return int64_t(rows_.size()); }

 private:
  // One sequence. A layer's keys and values are those of the block before (0 or W rows), then those of the block so
  // far.
  struct Row {
    Tensors before, block;                         // per layer, (1, w, 2D); block is (1, W, 2D), filled up to `filled`
    std::vector<StateContainer::Prepared> states;  // per recurrent layer
    int64_t filled = 0;
  };
  // One token for each of the rows.
  Tensor advance(std::span<Row> rows, const Tensor& tokens) const;
  void start_block(Row& row, const Carried& carried) const;
  Tensor attend(Row& row, size_t layer, const Tensor& q, const Tensor& kv) const;
  void finish_block(Row& row) const;

  const BlockRecurrentTransformer& model_;
  std::vector<Row> rows_;
};

}  // namespace rondo
