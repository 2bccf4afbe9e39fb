// Text that goes on from what a decoder has been fed, a token at a time. What is drawn depends on the seed and on the
// token's place in the sequence alone: a saved sequence goes on as if it had never stopped.
#pragma once
#include "decoder.h"
#include "sampling.h"

namespace rondo {

class Continuation {
 public:
  // One row of the decoder, which must outlive this. With `draft` > 0 decoding is speculative: where the last tokens
  // came before, what followed them then (so many tokens at most, fewer after wrong ones) goes through the model
  // together with the last one. Each is still drawn from the model's logits, with its own noise; the rest is taken back
  // at the first that was guessed wrong. So the text is the same, token by token, whatever `draft` is.
  Continuation(Decoder& decoder, int64_t row, const SamplingOptions& how, Generator g, int64_t draft = 0);
  static constexpr int64_t kMostDraft = 15;

  // Tokens that are given, not drawn: [n] i64. Something must be fed before the first next().
  void feed(const Tensor& tokens);
  struct Drawn {
    int64_t token;
    double log_probability;  // of the model, before temperature and filters
  };
  Drawn next();
  // What next() does first, for several rows of one decoder: the tokens that they drew last go in, all in one pass. To
  // the bit the same as one by one, for up to kFewRows rows.
  static void feed_drawn(std::span<Continuation* const> texts);
  // Leaves the decoder with exactly what was fed and drawn, to be saved, forked or fed.
  void settle();

  struct Speculation {
    int64_t drafted = 0, accepted = 0;
  };
  const Speculation& speculation() const { return speculation_; }

 private:
  std::vector<int64_t> draft(int64_t most) const;
  void feed_last() {
    Continuation* const one[] = {this};
    feed_drawn(one);
  }

  Decoder& decoder_;
  int64_t row_;
  SamplingOptions how_;
  Generator generator_;
  int64_t most_draft_, last_ = -1;  // the token that was drawn and not fed yet, or -1
  std::vector<int64_t> draft_;      // fed on approval
  int64_t right_ = 0;               // how many of the last draft were: the next one is at most about twice as long
  size_t approved_ = 0;             // of the draft
  Tensor logits_;                   // f32 on the CPU, after the last token that is no draft and after each of the draft
  Speculation speculation_;
};

// Finds the longest earlier occurrence (3 to 16 tokens, the latest of equally long ones) of what `text` ends with, and
// returns at most n tokens that followed it; none where its last three never came before.
std::vector<int64_t> look_up(std::span<const int64_t> text, int64_t n);

}  // namespace rondo
