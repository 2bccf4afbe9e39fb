// From logits to tokens, and generation of any length. Equal for any number of threads.
#pragma once
#include <functional>
#include <span>

#include "model.h"

namespace rondo {

struct SamplingOptions {
  double temperature = 1;  // 0: greedy
  int64_t top_k = 0;       // keep the k largest logits; 0: all
  double top_p = 1;        // then keep the fewest whose probabilities reach p
  double min_p = 0;        // then drop what is less likely than min_p times the likeliest
  // Before all that, what is among the last `repetition_window` tokens loses: its logit is divided by this where it is
  // positive, else multiplied (Keskar et al. 2019, CTRL).
  double repetition_penalty = 1;
  int64_t repetition_window = 64;
  void validate() const;  // throws Error with one clear line
};
// The reference's filter_thres as a top_k: ceil((1 - threshold) * V).
int64_t top_k_of_filter_thres(double threshold, int64_t num_tokens);

// The next token from V logits: argmax(logits / temperature + Gumbel noise) over what the filters keep. `recent` is
// what came before, for the penalty.
int64_t sample(const float* logits, int64_t num_tokens, const SamplingOptions& how, Generator& g,
               std::span<const int64_t> recent = {});
// log softmax(logits)[token]: the model's own, before temperature and filters.
double log_probability(const float* logits, int64_t num_tokens, int64_t token);

// Continues each row of prompt [B, P] i64 (P >= 1, on any device) by `length` tokens, across the borders of segments:
// memories and states move on when a segment is full. Calls each_token(row, token) as tokens are made; it returns false
// to end all. Returns the new tokens [B, <= length], on the CPU.
Tensor generate(const BlockRecurrentTransformer& model, const Tensor& prompt, int64_t length,
                const SamplingOptions& how, Generator& g,
                const std::function<bool(int64_t row, int64_t token)>& each_token = {});

}  // namespace rondo
