#include "models/block_recurrent/decoder.h"

#include <algorithm>
#include <cstring>

namespace rondo {

Decoder::Decoder(const BlockRecurrentTransformer& model, int64_t batch) : model_(model) {
  check(batch >= 1, "Decoder: the batch must be at least 1, not ", batch);
  check(!Tape::current(), "Decoder: a tape is alive, but decoding is inference only");
  rows_.resize(size_t(batch));
  for (Row& row : rows_) start_block(row, {});
}

// An empty block after what is carried.
void Decoder::start_block(Row& row, const Carried& carried) const {
  const BlockRecurrentConfig& c = model_.config;
  row.before = carried.memories;
  row.before.resize(model_.layers.size());
  row.block.clear();
  row.states.clear();
  row.filled = 0;
  size_t state = 0;
  for (const auto& layer : model_.layers) {
    row.block.push_back(Tensor({1, c.block_width, 2 * c.dim_head}, model_.dtype));
    if (!layer.attention.state_container) continue;
    const StateContainer& s = *layer.attention.state_container;
    row.states.push_back(s.prepare(carried.states.empty() ? s.initial(1) : carried.states[state++]));
  }
}

Tensor Decoder::prefill(int64_t row_index, const Tensor& tokens) {
  check(row_index >= 0 && row_index < batch(), "Decoder: there is no row ", row_index, ", the batch is ", batch());
  check(tokens.rank() == 1 && tokens.numel() > 0 && tokens.dtype() == DType::i64,
        "Decoder: the tokens of a row have shape ", tokens.shape(), " and are ", tokens.dtype(),
        ", but must be [1 or more] of i64");
  Row& row = rows_[size_t(row_index)];
  const BlockRecurrentConfig& c = model_.config;
  const int64_t n = tokens.numel();
  Tensor logits;
  int64_t at = 0;
  // Whole blocks, as many as a segment holds, go through the model at once; the rest token by token.
  while (at < n) {
    const int64_t whole = std::min(c.max_seq_len, n - at) / c.block_width * c.block_width;
    if (row.filled > 0 || whole == 0) {
      logits = advance({&row, 1}, narrow(tokens, 0, at++, 1));
      continue;
    }
    Carried carried;
    if (row.before[0]) carried.memories = row.before;
    for (const StateContainer::Prepared& s : row.states) carried.states.push_back(s.state);
    const auto r = model_(reshape(narrow(tokens, 0, at, whole), {1, whole}), carried, true);
    start_block(row, r.carried);
    logits = narrow(r.logits, 1, whole - 1, 1);
    at += whole;
  }
  return reshape(logits, {c.num_tokens});
}

// One query (1, 1, H*D) over the W - 1 keys before it and its own, which is added to the block. The op takes its memory
// to lie right before the query: only differences of positions matter.
Tensor Decoder::attend(Row& row, size_t layer, const Tensor& q, const Tensor& kv) const {
  const int64_t W = model_.config.block_width;
  const Tensor& block = row.block[layer];
  const size_t bytes = kv.n_bytes();
  const auto at = [](const Tensor& t, size_t byte) { return static_cast<std::byte*>(t.bytes()) + byte; };
  const int64_t older = row.before[layer] ? W - 1 - row.filled : 0;  // rows of the block before
  Tensor memory({1, older + row.filled, kv.dim(2)}, kv.dtype());
  if (older > 0) std::memcpy(memory.bytes(), at(row.before[layer], size_t(W - older) * bytes), size_t(older) * bytes);
  if (row.filled > 0) std::memcpy(at(memory, size_t(older) * bytes), block.bytes(), size_t(row.filled) * bytes);
  std::memcpy(at(block, size_t(row.filled) * bytes), kv.bytes(), bytes);
  return model_.layers[layer].attention.attn.window(q, kv, memory, W, model_.rotary);
}

// The block is full: its keys and values become the memory, and the states are written.
void Decoder::finish_block(Row& row) const {
  Carried carried;
  size_t state = 0;
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const auto& s = model_.layers[i].attention.state_container;
    if (s) carried.states.push_back(s->write(row.states[state++], row.block[i]));
    carried.memories.push_back(row.block[i]);
  }
  start_block(row, carried);
}

Tensor Decoder::step(const Tensor& tokens) {
  check(tokens.shape() == Shape{batch()} && tokens.dtype() == DType::i64, "Decoder: a step's tokens have shape ",
        tokens.shape(), " and are ", tokens.dtype(), ", but must be (", batch(), ") of i64");
  return advance(rows_, tokens);
}

Tensor Decoder::advance(std::span<Row> rows, const Tensor& tokens) const {
  const int64_t B = int64_t(rows.size());
  Tensor x = reshape(model_.token_emb(tokens), {B, 1, model_.config.dim});
  size_t recurrent = 0;
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const AttentionBlock& a = model_.layers[i].attention;
    const Tensor h = a.norm(x), q = a.to_q(h), kv = a.to_kv(h);
    const auto row_of = [](const Tensor& t, int64_t row) { return narrow(t, 0, row, 1); };
    std::vector<Tensor> seen, read;
    for (int64_t r = 0; r < B; ++r) seen.push_back(attend(rows[size_t(r)], i, row_of(q, r), row_of(kv, r)));
    Tensor out = concat(seen, 0);
    if (a.state_container) {
      const Tensor queries = a.state_container->q_to_state(h);
      for (int64_t r = 0; r < B; ++r) {
        const Tensor& s = rows[size_t(r)].states[recurrent].kv;
        read.push_back(a.state_container->to_state_cross_attn.groups(row_of(queries, r),
                                                                     reshape(s, {1, 1, s.dim(1), s.dim(2)}), 1));
      }
      out = concat({out, concat(read, 0)}, -1);
      ++recurrent;
    }
    x = model_.layers[i].feed_forward(a.to_out(out, x));
  }
  for (Row& row : rows)
    if (++row.filled == model_.config.block_width) finish_block(row);
  return reshape(model_.head(model_.final_norm(x)), {B, model_.config.num_tokens});
}

}  // namespace rondo
