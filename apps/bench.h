// What `rondo bench` shares with a program that does the same work with another library: the work, and how its speed is
// told.
#pragma once
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "apps/clock.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace rondo {

inline Tensor random_tokens(const Shape& shape, int64_t num_tokens, Generator& g) {
  Tensor tokens(shape, DType::i64);
  for (int64_t i = 0; i < tokens.numel(); ++i) tokens.data<int64_t>()[i] = g.below(num_tokens);
  return tokens;
}

// Training: the time of each step of `n_tokens` tokens, at least one; the speed is the median step's. Of steps of
// unlike length the means compare better: a moment that the machine was busy counts for as much in either.
inline nlohmann::ordered_json training_speed(std::vector<double> seconds, double n_tokens, double final_loss) {
  std::sort(seconds.begin(), seconds.end());
  const double all = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  return {{"tokens_per_s", n_tokens / seconds[seconds.size() / 2]},
          {"mean_tokens_per_s", double(seconds.size()) * n_tokens / all},
          {"best_tokens_per_s", n_tokens / seconds[0]},
          {"final_loss", final_loss}};
}

// The most memory that this process ever held, in MB of 2^20 bytes.
inline double peak_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_maxrss) / 1024;
}

}  // namespace rondo
