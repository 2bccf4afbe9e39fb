#include "models/block_recurrent/config.h"

#include <algorithm>
#include <cmath>

#include "nn/feed_forward.h"
#include "tensor/check.h"

namespace rondo {

bool BlockRecurrentConfig::is_recurrent(int64_t layer) const {
  const std::vector<int64_t> layers = recurrent();
  return std::find(layers.begin(), layers.end(), layer) != layers.end();
}

double BlockRecurrentConfig::training_flops_per_token() const {
  const double d = double(dim), inner = double(heads * dim_head), kv = 2 * double(dim_head), W = double(block_width),
               S = double(n_state_vectors()), F = double(FeedForward::width(dim, ff_mult));
  const double layer = d * inner + d * kv + 2 * inner * W + inner * d + 3 * d * F;
  const double reads_states = d * inner + 2 * inner * S + inner * d;
  const double writes_states = S * (2 * d * inner + d * kv + 2 * inner * (S + W) + 2 * inner * d + d * d);  // a block
  const double multiply_adds =
      double(depth) * layer + double(n_recurrent()) * (reads_states + writes_states / W) + d * double(num_tokens);
  return 2 * 3 * multiply_adds;
}

void BlockRecurrentConfig::validate() const {
  constexpr int64_t kMost = 1 << 24;  // more than any machine has room for, and no product of two overflows
  const auto is_size = [kMost](const char* name, int64_t value) {
    check(value >= 1, name, " = ", value, ", but it must be at least 1");
    check(value <= kMost, name, " = ", value, ", but it must be at most ", kMost);
  };
  is_size("num_tokens", num_tokens);
  is_size("dim", dim);
  is_size("depth", depth);
  is_size("dim_head", dim_head);
  is_size("heads", heads);
  is_size("ff_mult", ff_mult);
  is_size("block_width", block_width);
  is_size("max_seq_len", max_seq_len);
  is_size("num_state_vectors", n_state_vectors());
  check(dim_head % 2 == 0, "dim_head = ", dim_head, ", but it must be even (rotary embedding turns pairs)");
  check(max_seq_len % block_width == 0, "max_seq_len = ", max_seq_len,
        ", but it must be a multiple of block_width = ", block_width);
  check(FeedForward::width(dim, ff_mult) >= 1, "dim = ", dim, " and ff_mult = ", ff_mult,
        " leave the feed-forward layer no width");
  std::vector<int64_t> layers = recurrent();
  for (int64_t layer : layers)
    check(layer >= 1 && layer <= depth, "recurrent_layers names layer ", layer, ", but the layers are 1 to ", depth,
          recurrent_layers ? "" : "; with depth 1, name it: recurrent_layers = [1], or [] for none");
  std::sort(layers.begin(), layers.end());
  check(std::adjacent_find(layers.begin(), layers.end()) == layers.end(), "recurrent_layers names a layer twice");
  check(!recurrent_layers || std::is_sorted(recurrent_layers->begin(), recurrent_layers->end()),
        "recurrent_layers must be in rising order");
  check(ignore_index < 0 || ignore_index >= num_tokens, "ignore_index = ", ignore_index,
        ", but that is a token of the vocabulary 0 to ", num_tokens - 1);
  check(init == "0.3.2" || init == "0.4", "init = \"", init, "\", but it must be \"0.3.2\" or \"0.4\"");
  check(qk_norm_scale >= 0 && qk_norm_scale <= 1e6, "qk_norm_scale = ", qk_norm_scale,
        ", but it must be positive, 1e6 at most, or 0 for 1/sqrt(dim_head)");
  if (!ema_beta_init) return;
  const auto [mean, deviation] = *ema_beta_init;
  check(std::abs(mean) <= 1e6, "ema_beta_init has the mean ", mean, ", but it must be from -1e6 to 1e6");
  check(deviation >= 0 && deviation <= 1e6, "ema_beta_init has the standard deviation ", deviation,
        ", but it must be from 0 to 1e6");
}

}  // namespace rondo
