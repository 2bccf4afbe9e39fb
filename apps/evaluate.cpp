#include "apps/evaluate.h"

#include <algorithm>
#include <numbers>

#include "apps/clock.h"
#include "autograd/ops.h"

namespace rondo {
namespace {

// Calls how.each for the labels [1, n]; false once it has enough.
bool score(const EvaluateOptions& how, const Tensor& logits, const Tensor& labels) {
  const Tensor p = to(log_softmax(logits), Device::cpu);
  for (int64_t i = 0; i < labels.numel(); ++i) {
    const int64_t token = labels.data<int64_t>()[i];
    if (!how.each(token, double(p.data<float>()[i * p.dim(-1) + token]))) return false;
  }
  return true;
}

}  // namespace

double Evaluation::bits_per_byte() const { return nats / double(bytes) / std::numbers::ln2; }

int64_t tokens_for(const Text& text, int64_t bytes) {
  if (bytes == 0 || text.size() < 2) return 0;
  int64_t n = std::max<int64_t>(1, text.within(1, bytes));
  while (text.bytes(1, n) == 0 && n + 1 < text.size()) ++n;
  return n;
}

Evaluation evaluate(const BlockRecurrentTransformer& model, const Text& text, const EvaluateOptions& how) {
  check(text.size() >= 2, "the text to evaluate has ", text.size(), text.in_bytes() ? " byte" : " token",
        text.size() == 1 ? "" : "s", ", but predicting needs at least 2");
  const auto start = Clock::now();
  const int64_t all = text.size() - 1, n = model.config.max_seq_len;
  const int64_t total = how.max_tokens > 0 ? std::min(all, how.max_tokens) : all;
  check(text.bytes(1, total) > 0, "the tokens to predict stand for no byte of the text; give more text");
  Evaluation result;
  Carried carried = how.carried;
  for (int64_t begin = 0; begin < total; begin += n) {
    const int64_t width = std::min(n, total - begin);
    auto [logits, next] = model(text.row(begin, width), carried);
    const Tensor labels = text.row(begin + 1, width);
    if (how.each && !score(how, logits, labels)) break;
    // No label is to be ignored here, not even a byte that happens to be the model's ignore_index.
    result.nats += cross_entropy(logits, labels, -1).item() * double(width);
    result.tokens += width;
    ++result.segments;
    carried = std::move(next);
    if (!how.states) carried.states.clear();
    if (!how.memories) carried.memories.clear();
  }
  result.bytes = text.bytes(1, result.tokens);
  result.carried = std::move(carried);
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace rondo
