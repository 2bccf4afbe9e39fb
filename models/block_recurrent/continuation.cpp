#include "models/block_recurrent/continuation.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace rondo {

std::vector<int64_t> look_up(std::span<const int64_t> text, int64_t n) {
  constexpr size_t kLeast = 3, kMost = 16;
  size_t best = 0, after = 0;
  for (size_t end = text.size() - std::min<size_t>(text.size(), 1); end >= kLeast && best < kMost; --end) {
    size_t same = 0;
    while (same < std::min(end, kMost) && text[end - 1 - same] == text[text.size() - 1 - same]) ++same;
    if (same >= kLeast && same > best) best = same, after = end;
  }
  if (best == 0) return {};
  const auto found = text.subspan(after, std::min(size_t(n), text.size() - after));
  return {found.begin(), found.end()};
}

namespace {
// Logits to draw from.
Tensor on_host(const Tensor& logits) { return to(to(logits, DType::f32), Device::cpu); }
}  // namespace

Continuation::Continuation(Decoder& decoder, int64_t row, const SamplingOptions& how, Generator g, int64_t draft)
    : decoder_(decoder), row_(row), how_(how), generator_(g), most_draft_(draft) {
  how.validate();
  check(draft >= 0 && draft <= kMostDraft, "a draft has 0 (none) to ", kMostDraft, " tokens, not ", draft);
}

void Continuation::feed(const Tensor& tokens) {
  settle();
  decoder_.prefill(row_, tokens);
  logits_ = Tensor();
}

// What is likely to follow the token drawn last.
std::vector<int64_t> Continuation::draft(int64_t most) const {
  most = std::min({most, most_draft_, decoder_.room(row_) - 1, 2 * right_ + 1});
  if (most <= 0) return {};
  std::vector<int64_t> text(decoder_.recent(row_).begin(), decoder_.recent(row_).end());
  text.push_back(last_);
  return look_up(text, most);
}

void Continuation::feed_drawn(std::span<Continuation* const> texts) {
  thread_local std::vector<Continuation*> ready;  // these keep their memory from token to token
  thread_local std::vector<int64_t> counts, tokens;
  ready.clear(), tokens.clear();
  std::copy_if(texts.begin(), texts.end(), std::back_inserter(ready), [](auto* text) { return text->last_ >= 0; });
  if (ready.empty()) return;
  std::sort(ready.begin(), ready.end(), [](auto* a, auto* b) { return a->row_ < b->row_; });
  Decoder& decoder = ready[0]->decoder_;
  counts.assign(size_t(decoder.batch()), 0);
  for (Continuation* text : ready) {
    check(&text->decoder_ == &decoder && counts[size_t(text->row_)] == 0,
          "feed_drawn: the texts must be different rows of one decoder");
    text->draft_ = text->draft(kFewRows / int64_t(ready.size()) - 1), text->approved_ = 0;
    text->speculation_.drafted += int64_t(text->draft_.size());
    counts[size_t(text->row_)] = 1 + int64_t(text->draft_.size());
    tokens.push_back(text->last_);
    tokens.insert(tokens.end(), text->draft_.begin(), text->draft_.end());
  }
  const Tensor fed = decoder.extend_rows(counts, tensor(tokens, {int64_t(tokens.size())}));
  for (Continuation* text : ready) text->last_ = -1;
  const Tensor logits = on_host(fed);
  int64_t first = 0;
  for (Continuation* text : ready) {
    const int64_t n = counts[size_t(text->row_)];
    text->logits_ = ready.size() == 1 ? logits : narrow(logits, 0, first, n);
    first += n;
  }
}

Continuation::Drawn Continuation::next() {
  feed_last();
  if (!logits_) {
    const Tensor logits = decoder_.logits(row_);
    logits_ = on_host(reshape(logits, {1, logits.numel()}));
  }
  const int64_t V = logits_.dim(1);
  const size_t ahead = draft_.size() - approved_;
  const std::span<const int64_t> fed = decoder_.recent(row_);
  Generator g = generator_;
  g.position += uint64_t(decoder_.position(row_) - int64_t(ahead)) * uint64_t(V) * 2;  // a uniform takes two
  const float* logits = logits_.data<float>() + int64_t(approved_) * V;
  const int64_t token = sample(logits, V, how_, g, fed.first(fed.size() - ahead));
  const Drawn drawn = {token, log_probability(logits, V, token)};
  if (ahead > 0 && draft_[approved_] == token) {
    ++approved_, ++speculation_.accepted;
    return drawn;
  }
  decoder_.rewind(row_, int64_t(ahead));
  if (!draft_.empty()) right_ = int64_t(approved_);
  draft_.clear(), approved_ = 0;
  last_ = token;
  return drawn;
}

void Continuation::settle() {
  feed_last();
  decoder_.rewind(row_, int64_t(draft_.size() - approved_));
  draft_.clear(), approved_ = 0;
  logits_ = Tensor();
}

}  // namespace rondo
