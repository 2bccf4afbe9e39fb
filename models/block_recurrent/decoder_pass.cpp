// The decoder's caches, and one pass of a few tokens over the weights.
#include <cmath>
#include <cstring>

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

double factor_of(const Attention& a, int64_t head_width) {
  return a.factor ? a.factor : 1 / std::sqrt(double(head_width));
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
      if (model.layers[i].attention.state_container)
        states_[i] = key_value_cache(device, batch, c.n_state_vectors(), c.dim_head, model.dtype);
    }
  });
  rows_.resize(size_t(batch));
  for (int64_t row = 0; row < batch; ++row) start_block(row, {});
}

// Keys and values (1, n, 2D) as rows first.. of a row's window.
void Decoder::cache_window(int64_t row, size_t layer, const Tensor& kv, int64_t first) {
  std::vector<CachePlace> places;
  for (int64_t i = 0; i < kv.dim(1); ++i) places.push_back({row, first, first + i + 1});
  dispatch(kv.device(), [&](auto device) {
    cache_keys(device, places, kv, model_->layers[layer].attention.attn.k_scale, model_->rotary, windows_[layer]);
  });
}

void Decoder::cache_state(int64_t row, size_t layer) {
  const Tensor& kv = at(row).states[layer].kv;
  std::vector<CachePlace> places;
  for (int64_t i = 0; i < kv.dim(1); ++i) places.push_back({row, 0, i + 1});
  dispatch(kv.device(), [&](auto device) {
    const StateContainer& s = *model_->layers[layer].attention.state_container;
    cache_keys(device, places, kv, s.to_state_cross_attn.k_scale, {}, states_[layer]);
  });
}

// The first tokens of a block that is empty: keys and values (1, n, 2D) per layer.
void Decoder::fill_block(int64_t index, const Tensors& kv) {
  Row& row = at(index);
  for (size_t i = 0; i < kv.size(); ++i) {
    copy_some(kv[i], 0, row.block[i], 0, kv[i].dim(1));
    cache_window(index, i, kv[i], model_->config.block_width);
  }
  row.filled = kv[0].dim(1);
}

// n tokens for one row, none for the others.
std::span<const int64_t> Decoder::counts_of(int64_t row, int64_t n) {
  counts_.assign(rows_.size(), 0);
  counts_[size_t(row)] = n;
  return counts_;
}

// Where the next tokens of the rows, counts[row] of them each, stand in the windows and see the states. Full blocks are
// finished first.
void Decoder::find_places(std::span<const int64_t> counts) {
  const int64_t W = model_->config.block_width;
  places_.clear(), state_places_.clear();
  for (int64_t r = 0; r < batch(); ++r) {
    const int64_t count = counts[size_t(r)];
    if (count > 0 && at(r).filled == W) finish_block(r);
    for (int64_t j = at(r).filled; j < at(r).filled + count; ++j) {
      places_.push_back({r, at(r).before[0] ? j + 1 : W, W + j + 1});
      state_places_.push_back({r, 0, model_->config.n_state_vectors()});
    }
  }
}

// The next tokens of the rows, counts[row] of them each, none beyond the end of its block. Returns the logits of all,
// or of the last one only.
Tensor Decoder::advance(std::span<const int64_t> counts, const Tensor& tokens, bool all_logits) {
  const BlockRecurrentConfig& c = model_->config;
  const int64_t n = tokens.numel(), HD = c.heads * c.dim_head;
  find_places(counts);
  // Calls f(row, first, count) for the rows that have tokens.
  const auto each_row = [&](auto&& f) {
    for (int64_t r = 0, first = 0; r < batch(); first += counts[size_t(r++)])
      if (counts[size_t(r)] > 0) f(r, first, counts[size_t(r)]);
  };

  const Tensor host = to(tokens, Device::cpu);
  Tensor x = model_->token_emb(host);  // (n, d)
  for (size_t i = 0; i < model_->layers.size(); ++i) {
    const AttentionBlock& a = model_->layers[i].attention;
    const auto& state = a.state_container;
    const Tensor h = a.norm(x), q = a.to_q(h), kv = a.to_kv(h), state_q = state ? state->q_to_state(h) : Tensor();
    each_row(
        [&](int64_t r, int64_t first, int64_t count) { copy_some(kv, first, at(r).block[i], at(r).filled, count); });
    const Tensor seen({n, state ? 2 * HD : HD}, model_->dtype, x.device());
    dispatch(x.device(), [&](auto device) {
      const auto attend = [&](const auto& where, const Attention& how, const Tensor& queries, const Tensor& table,
                              const KeyValueCache& cache, int64_t column) {
        attention_decode(device, where, c.heads, factor_of(how, c.dim_head), queries, how.q_scale, table, cache, seen,
                         column);
      };
      cache_keys(device, places_, kv, a.attn.k_scale, model_->rotary, windows_[i]);
      attend(places_, a.attn, q, model_->rotary, windows_[i], 0);
      if (state) attend(state_places_, state->to_state_cross_attn, state_q, {}, states_[i], HD);
    });
    x = model_->layers[i].feed_forward(a.to_out(seen, x));
  }
  if (!all_logits) x = narrow(x, 0, n - 1, 1);
  const Tensor logits = model_->head(model_->final_norm(x));
  each_row([&](int64_t r, int64_t first, int64_t count) {
    at(r).filled += count;
    fed(r, {host.data<int64_t>() + first, size_t(count)},
        count < logits.dim(0) ? narrow(logits, 0, first, count) : logits);
  });
  return logits;
}

Decoder Decoder::fork(int64_t row, int64_t copies) const {
  Decoder forked(*model_, copies);
  for (Row& r : forked.rows_) {
    r = at(row);  // what is never written again is shared
    for (Tensor& block : r.block) block = clone(block);
  }
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
  return forked;
}

}  // namespace rondo
