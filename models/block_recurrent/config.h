// The model's configuration, with the reference's argument names and defaults.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rondo {

struct BlockRecurrentConfig {
  int64_t num_tokens = 256;  // V
  int64_t dim = 128;         // d
  int64_t depth = 4;         // L
  int64_t dim_head = 64;     // D
  int64_t heads = 8;         // H
  int64_t ff_mult = 4;
  int64_t max_seq_len = 1024;                            // N, tokens of a segment
  int64_t block_width = 512;                             // W
  std::optional<int64_t> num_state_vectors;              // S; block_width where not given
  std::optional<std::vector<int64_t>> recurrent_layers;  // from 1; {depth / 2} where not given; {} is a Transformer-XL
  bool all_layers_qk_rmsnorm = false;
  int64_t ignore_index = -100;

  // Departures from the reference (its behaviour is the default); docs/tour.md says why one wants them.
  std::string init = "0.3.2";  // "0.4": init_state and learned_ema_beta N(0, 0.1) instead of N(0, 1)
  double qk_norm_scale = 0;    // > 0: replaces 1/sqrt(dim_head) where queries and keys are normalised
  std::optional<std::array<double, 2>> ema_beta_init;  // learned_ema_beta ~ N(mean, std)

  int64_t n_state_vectors() const { return num_state_vectors.value_or(block_width); }
  std::vector<int64_t> recurrent() const { return recurrent_layers.value_or(std::vector<int64_t>{depth / 2}); }
  int64_t n_recurrent() const { return recurrent_layers ? int64_t(recurrent_layers->size()) : 1; }
  bool is_recurrent(int64_t layer) const;  // counted from 1

  // What training by a token costs: two operations for each multiply-add of a product or an attention, once forward and
  // twice backward. Counted for whole segments that carry memories and states, with a window full of keys.
  double training_flops_per_token() const;

  // Throws Error with one clear line for the first thing that is wrong.
  void validate() const;
};

}  // namespace rondo
