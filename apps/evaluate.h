// Bits per byte over a contiguous text, read segment by segment with states and memories carried.
#pragma once
#include <functional>

#include "apps/tokenizer.h"
#include "models/block_recurrent/model.h"

namespace rondo {

struct EvaluateOptions {
  int64_t max_tokens = 0;  // predict this many; 0: all after the first
  bool states = true;      // carry states from segment to segment
  bool memories = true;    // carry the last block's keys and values
  Carried carried = {};    // from the text before this one
  // Called with every token predicted; false ends all.
  std::function<bool(int64_t token, double log_probability)> each = {};
};

struct Evaluation {
  double nats = 0;                              // sum over tokens
  int64_t tokens = 0, bytes = 0, segments = 0;  // predicted
  double seconds = 0;
  Carried carried = {};  // to the text that follows; empty where the last segment was not whole
  double bits_per_byte() const;
};

// How many tokens to predict for so many bytes of the text: those that stand for no more, but a byte at least. 0 is
// all.
int64_t tokens_for(const Text& text, int64_t bytes);

// Throws where the text has fewer than two tokens.
Evaluation evaluate(const BlockRecurrentTransformer& model, const Text& text, const EvaluateOptions& how);

}  // namespace rondo
