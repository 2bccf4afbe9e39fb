#include "models/block_recurrent/decoder.h"

#include <algorithm>
#include <numeric>

namespace rondo {

Decoder::Row& Decoder::at(int64_t row) { return const_cast<Row&>(std::as_const(*this).at(row)); }
const Decoder::Row& Decoder::at(int64_t row) const {
  check(row >= 0 && row < batch(), "Decoder: there is no row ", row, ", the batch is ", batch());
  return rows_[size_t(row)];
}

int64_t Decoder::room(int64_t row) const {
  const int64_t W = model_->config.block_width, left = W - at(row).filled;
  return left > 0 ? left : W;
}

Tensor Decoder::logits(int64_t row) const {
  const Tensor& l = at(row).logits;
  check(bool(l), "Decoder: row ", row, " was fed nothing yet, so nothing follows");
  return reshape(narrow(l, 0, l.dim(0) - 1, 1), {l.dim(1)});
}

// An empty block after what is carried.
void Decoder::start_block(int64_t index, const Carried& carried) {
  Row& row = at(index);
  row.before = carried.memories;
  row.before.resize(model_->layers.size());
  row.states.assign(model_->layers.size(), {});
  row.filled = 0;
  size_t state = 0;
  for (size_t i = 0; i < model_->layers.size(); ++i) {
    if (row.before[i]) cache_window(index, i, row.before[i], 0);
    const auto& s = model_->layers[i].attention.state_container;
    if (!s) continue;
    row.states[i] = s->prepare(carried.states.empty() ? s->initial() : carried.states[state++]);
    cache_state(index, i);
  }
}

// The block is full: its keys and values become the memory, and the states are written.
void Decoder::finish_block(int64_t index) {
  Carried carried;
  for (size_t i = 0; i < model_->layers.size(); ++i) {
    carried.memories.push_back(narrow(blocks_[i], 0, index, 1));
    if (const auto& s = model_->layers[i].attention.state_container)
      carried.states.push_back(s->write(at(index).states[i], carried.memories[i]));
  }
  start_block(index, carried);
}

Tensor Decoder::prefill(int64_t index, const Tensor& tokens) {
  const Row& row = at(index);
  check(tokens.rank() == 1 && tokens.numel() > 0 && tokens.dtype() == DType::i64,
        "Decoder: the tokens of a row have shape ", tokens.shape(), " and are ", tokens.dtype(),
        ", but must be [1 or more] of i64");
  const Tensor all = checked(tokens);
  const int64_t W = model_->config.block_width;
  int64_t left = all.numel();
  while (left > 0) {
    if (row.filled == W) finish_block(index);
    const bool blocks = row.filled == 0 && left > W;  // and something behind them
    const int64_t n = blocks ? (left - 1) / W * W : std::min(left, W - row.filled);
    const Tensor next = narrow(all, 0, all.numel() - left, n);
    if (blocks)
      prefill_blocks(index, next);
    else if (row.filled == 0 && n >= std::min(W, kFewRows))
      begin_block(index, next);
    else
      advance(counts_of(index, n), next, false);
    left -= n;
  }
  return logits(index);
}

// Tokens on the host, all of them the model's: nothing was changed yet when they are not.
Tensor Decoder::checked(const Tensor& tokens) const {
  const Tensor host = to(tokens, Device::cpu);
  const int64_t V = model_->config.num_tokens, wrong = first_token_outside(host, V, 0);
  check(wrong < 0, "Decoder: the tokens hold ", wrong < 0 ? 0 : host.data<int64_t>()[wrong], " at index ", wrong,
        ", but the model has ", V, " tokens");
  return host;
}

// What a row's empty block goes on from.
Carried Decoder::carried(int64_t index) const {
  const Row& row = at(index);
  Carried c;
  if (row.before[0]) c.memories = row.before;
  for (const StateContainer::Prepared& s : row.states)
    if (s.state) c.states.push_back(s.state);
  return c;
}

// Whole blocks, as in training: segment by segment. Of the last layer only what it leaves is made: nobody asks what
// follows these tokens.
void Decoder::prefill_blocks(int64_t index, const Tensor& tokens) {
  const BlockRecurrentConfig& c = model_->config;
  const int64_t n = tokens.numel(), segment = c.max_seq_len / c.block_width * c.block_width;
  Carried before = carried(index);
  for (int64_t first = 0; first < n; first += segment) {
    const int64_t count = std::min(segment, n - first);
    before = model_->hidden(reshape(narrow(tokens, 0, first, count), {1, count}), before, Carry::all, false).carried;
  }
  start_block(index, before);
  fed(index, {tokens.data<int64_t>(), size_t(n)}, {}, 0);
}

// The first tokens of an empty block, up to all of it. Only the last one goes through the last layer.
void Decoder::begin_block(int64_t index, const Tensor& tokens) {
  const BlockRecurrentConfig& c = model_->config;
  const int64_t n = tokens.numel();
  const auto r = model_->hidden(reshape(tokens, {1, n}), carried(index), Carry::keys, false);
  fill_block(index, r.carried.memories);
  const CachePlace place = place_of(index, n - 1);
  const Tensor last = reshape(narrow(r.x, 1, n - 1, 1), {1, c.dim});
  const Tensor x = layer(model_->layers.size() - 1, last, to(tensor_of({&place, 1}), last.device()));
  fed(index, {tokens.data<int64_t>(), size_t(n)}, head(x), n);
}

Tensor Decoder::step(const Tensor& tokens) {
  check(tokens.shape() == Shape{batch()} && tokens.dtype() == DType::i64, "Decoder: a step's tokens have shape ",
        tokens.shape(), " and are ", tokens.dtype(), ", but must be (", batch(), ") of i64");
  counts_.assign(rows_.size(), 1);
  return advance(counts_, tokens, true);
}

Tensor Decoder::extend(int64_t row, const Tensor& tokens) {
  check(tokens.rank() == 1 && tokens.numel() > 0 && tokens.numel() <= room(row) && tokens.dtype() == DType::i64,
        "Decoder: the tokens that extend row ", row, " have shape ", tokens.shape(), " and are ", tokens.dtype(),
        ", but must be [1 to ", room(row), "] of i64: its block has room for that many");
  return advance(counts_of(row, tokens.numel()), tokens, true);
}

Tensor Decoder::extend_rows(const std::vector<int64_t>& counts, const Tensor& tokens) {
  check(int64_t(counts.size()) == batch(), "Decoder: ", counts.size(),
        " counts of tokens were given, but the batch is ", batch());
  for (int64_t row = 0; row < batch(); ++row) {
    const int64_t count = counts[size_t(row)];
    check(count >= 0 && count <= room(row), "Decoder: row ", row, " cannot be extended by ", count,
          " tokens: its block has room for 0 to ", room(row));
  }
  const int64_t n = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  check(n > 0 && tokens.shape() == Shape{n} && tokens.dtype() == DType::i64,
        "Decoder: the tokens that extend the rows have shape ", tokens.shape(), " and are ", tokens.dtype(),
        ", but must be (", n, ") of i64, at least one");
  return advance(counts, tokens, true);
}

void Decoder::rewind(int64_t index, int64_t n) {
  Row& row = at(index);
  const int64_t most = row.logits ? std::min(row.filled, row.logits.dim(0) - 1) : 0;
  check(n >= 0 && n <= most, "Decoder: row ", index, " can take back 0 to ", most, " tokens, not ", n);
  if (n == 0) return;
  row.filled -= n, row.position -= n;
  row.recent.resize(row.recent.size() - size_t(n));
  row.logits = narrow(row.logits, 0, 0, row.logits.dim(0) - n);
}

// The tokens are part of the sequence from here on; before, they left no trace. `filled`: the block's.
void Decoder::fed(int64_t index, std::span<const int64_t> tokens, const Tensor& logits, int64_t filled) {
  Row& row = at(index);
  const size_t n = tokens.size(), keep = kRecent + (logits ? size_t(logits.dim(0)) : 0);  // some may be taken back
  tokens = tokens.last(std::min(n, keep));
  row.recent.insert(row.recent.end(), tokens.begin(), tokens.end());
  if (row.recent.size() > 2 * keep) row.recent.erase(row.recent.begin(), row.recent.end() - int64_t(keep));
  row.position += int64_t(n), row.filled = filled, row.logits = logits;
}

}  // namespace rondo
