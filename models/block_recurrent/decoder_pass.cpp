// The decoder's caches, and one pass of a few tokens over the weights.
#include <algorithm>
#include <utility>

#include "models/block_recurrent/decoder.h"
#include "models/block_recurrent/precision.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

// Copies n rows, from `from` on, to those of another tensor from `to` on. The last dimension is the row.
void copy_some(const Tensor& x, int64_t from, const Tensor& y, int64_t to, int64_t n) {
  const int64_t width = x.dim(-1);
  dispatch(x.device(), [&](auto device) {
    copy_rows(device, x, {from * width, width}, y, {to * width, width}, n, width);
  });
}

}  // namespace

Decoder::Decoder(const BlockRecurrentTransformer& model, int64_t batch) : model_(&model) {
  check(batch >= 1, "Decoder: the batch must be at least 1, not ", batch);
  check(computes_in(model) == model.dtype, "Decoder: decoding computes in ", model.dtype,
        ", but the model computes in ", computes_in(model), "; compute_in(model, ", model.dtype, ") changes that");
  check(!Tape::current(), "Decoder: a tape is alive, but decoding is inference only");
  const BlockRecurrentConfig& c = model.config;
  states_.resize(model.layers.size());
  dispatch(model.device(), [&](auto device) {
    for (size_t i = 0; i < model.layers.size(); ++i) {
      windows_.push_back(key_value_cache(device, batch, 2 * c.block_width, c.dim_head, model.dtype));
      blocks_.push_back(Tensor({batch, c.block_width, 2 * c.dim_head}, model.dtype, model.device()));
      if (!model.layers[i].attention.state_container) continue;
      states_[i] = key_value_cache(device, batch, c.n_state_vectors(), c.dim_head, model.dtype);
      states_[i].all = true;
    }
  });
  if (model.device() == Device::cuda) {
    pool_ = std::make_shared<MemoryPool>(Device::cuda);
    captured_.resize(size_t(kFewRows) + 1);
  }
  rows_.resize(size_t(batch));
  for (int64_t row = 0; row < batch; ++row) start_block(row, {});
}

// Keys and values (1, n, 2D) as rows first.. of a row's window.
void Decoder::cache_window(int64_t row, size_t layer, const Tensor& kv, int64_t first) {
  std::vector<CachePlace> places;
  for (int64_t i = 0; i < kv.dim(1); ++i) places.push_back({row, first, first + i + 1});
  const Tensor there = to(tensor_of(places), kv.device());
  dispatch(kv.device(), [&](auto device) {
    cache_keys(device, there, kv, model_->layers[layer].attention.attn.k_scale, model_->rotary, windows_[layer], {});
  });
}

void Decoder::cache_state(int64_t row, size_t layer) {
  const Tensor& kv = at(row).states[layer].kv;
  std::vector<CachePlace> places;
  for (int64_t i = 0; i < kv.dim(1); ++i) places.push_back({row, 0, i + 1});
  const Tensor there = to(tensor_of(places), kv.device());
  dispatch(kv.device(), [&](auto device) {
    const StateContainer& s = *model_->layers[layer].attention.state_container;
    cache_keys(device, there, kv, s.to_state_cross_attn.k_scale, {}, states_[layer], {});
  });
}

// The first tokens of a block that is empty: keys and values (1, n, 2D) per layer.
void Decoder::fill_block(int64_t index, const Tensors& kv) {
  const int64_t W = model_->config.block_width;
  for (size_t i = 0; i < kv.size(); ++i) {
    copy_some(kv[i], 0, blocks_[i], index * W, kv[i].dim(1));
    cache_window(index, i, kv[i], W);
  }
}

// n tokens for one row, none for the others.
std::span<const int64_t> Decoder::counts_of(int64_t row, int64_t n) {
  counts_.assign(rows_.size(), 0);
  counts_[size_t(row)] = n;
  return counts_;
}

// Where a token of a row's block stands in the windows.
CachePlace Decoder::place_of(int64_t row, int64_t index) const {
  const int64_t W = model_->config.block_width;
  return {row, at(row).before[0] ? index + 1 : W, W + index + 1};
}

// Where the next tokens of the rows, counts[row] of them each, stand. Full blocks are finished first.
void Decoder::find_places(std::span<const int64_t> counts) {
  const int64_t W = model_->config.block_width;
  places_.clear();
  for (int64_t r = 0; r < batch(); ++r) {
    const int64_t count = counts[size_t(r)];
    if (count > 0 && at(r).filled == W) finish_block(r);
    for (int64_t j = at(r).filled; j < at(r).filled + count; ++j) places_.push_back(place_of(r, j));
  }
}

// One pass over the weights: what lies on the host was decided before. Returns the logits of all tokens, or of the last
// one only.
Tensor Decoder::pass(const Fed& fed, bool all_logits) const {
  Tensor x = model_->token_emb(fed.tokens);  // (n, d)
  for (size_t i = 0; i < model_->layers.size(); ++i) x = layer(i, x, fed.places);
  if (!all_logits) x = narrow(x, 0, x.dim(0) - 1, 1);
  return head(x);
}

// pass(fed, true), where `fed` lies on the host and the model on a GPU: captured when it comes the second time.
Tensor Decoder::replay(const Fed& fed) {
  const auto there = [](const Fed& f) { return Fed{to(f.tokens, Device::cuda), to(f.places, Device::cuda)}; };
  Captured& known = captured_[size_t(fed.tokens.numel())];
  if (!std::exchange(known.seen, true)) return pass(there(fed), true);
  if (known.graph) {
    assign(fed.tokens, known.fed.tokens);
    assign(fed.places, known.fed.places);
  } else {
    Captured made{.seen = true, .graph = {}, .fed = there(fed), .logits = {}};
    made.graph = Graph::capture(pool_, [&] { made.logits = pass(made.fed, true); });
    known = std::move(made);
  }
  known.graph.replay();
  return clone(known.logits);  // the next pass overwrites them
}

int64_t Decoder::captured() const {
  return std::count_if(captured_.begin(), captured_.end(), [](const Captured& c) { return bool(c.graph); });
}

// The next tokens of the rows, counts[row] of them each, none beyond the end of its block.
Tensor Decoder::advance(std::span<const int64_t> counts, const Tensor& tokens, bool all_logits) {
  const Tensor host = checked(tokens);
  find_places(counts);
  const Fed what{host, tensor_of(places_)};
  const bool by_graph = all_logits && host.numel() < int64_t(captured_.size());
  const Tensor logits = by_graph ? replay(what) : pass({host, to(what.places, model_->device())}, all_logits);
  for (int64_t r = 0, first = 0; r < batch(); first += counts[size_t(r++)]) {
    const int64_t count = counts[size_t(r)];
    if (count == 0) continue;
    fed(r, {host.data<int64_t>() + first, size_t(count)},
        count < logits.dim(0) ? narrow(logits, 0, first, count) : logits, at(r).filled + count);
  }
  return logits;
}

Decoder Decoder::fork(int64_t row, int64_t copies) const {
  Decoder forked(*model_, copies);
  for (Row& r : forked.rows_) r = at(row);  // its tensors are never written again
  // A cache's layout is the kernels' own, but its first dimension is the sequence.
  const auto copy_sequence = [&](const Tensor& from, const Tensor& into, int64_t copy) {
    const auto by_sequence = [](const Tensor& t) { return t.view({t.dim(0), t.numel() / t.dim(0)}); };
    copy_some(by_sequence(from), row, by_sequence(into), copy, 1);
  };
  const auto copy_caches = [&](const std::vector<KeyValueCache>& from, const std::vector<KeyValueCache>& into) {
    for (size_t i = 0; i < from.size(); ++i)
      for (int64_t copy = 0; from[i].keys && copy < copies; ++copy) {
        copy_sequence(from[i].keys, into[i].keys, copy);
        copy_sequence(from[i].values, into[i].values, copy);
      }
  };
  copy_caches(windows_, forked.windows_);
  copy_caches(states_, forked.states_);
  for (size_t i = 0; i < blocks_.size(); ++i)
    for (int64_t copy = 0; copy < copies; ++copy) copy_sequence(blocks_[i], forked.blocks_[i], copy);
  return forked;
}

}  // namespace rondo
