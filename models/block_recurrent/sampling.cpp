#include "models/block_recurrent/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "models/block_recurrent/decoder.h"

namespace rondo {

void SamplingOptions::validate() const {
  check(temperature >= 0, "temperature must be 0 (greedy) or more, not ", temperature);
  check(top_k >= 0, "top-k must be 0 (all) or more, not ", top_k);
  check(top_p > 0 && top_p <= 1, "top-p must be above 0 and at most 1, not ", top_p);
  check(min_p >= 0 && min_p <= 1, "min-p must be 0 to 1, not ", min_p);
}

int64_t top_k_of_filter_thres(double threshold, int64_t num_tokens) {
  check(threshold >= 0 && threshold < 1, "filter_thres must be at least 0 and below 1, not ", threshold);
  return int64_t(std::ceil((1 - threshold) * double(num_tokens)));
}

namespace {

// Tokens from the likeliest to the least likely that the filters keep.
std::vector<int64_t> kept(const float* logits, int64_t n, const SamplingOptions& how) {
  std::vector<int64_t> order(size_t(n), 0);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (how.top_k > 0) order.resize(size_t(std::min(how.top_k, n)));
  if (how.top_p >= 1 && how.min_p <= 0) return order;

  std::vector<double> p;
  for (int64_t t : order) p.push_back(std::exp(double(logits[t]) - logits[order[0]]));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  size_t keep = 0;
  for (double reached = 0; keep < p.size() && (keep == 0 || reached < how.top_p * total); ++keep) reached += p[keep];
  while (keep > 1 && p[keep - 1] < how.min_p * p[0]) --keep;
  order.resize(keep);
  return order;
}

}  // namespace

int64_t sample(const float* logits, int64_t n, const SamplingOptions& how, Generator& g) {
  if (how.temperature == 0) return std::max_element(logits, logits + n) - logits;
  // Noise for every token, kept or not: the draws do not depend on the filters.
  std::vector<double> noise;
  for (int64_t i = 0; i < n; ++i) noise.push_back(-std::log(-std::log(std::max(g.uniform(), 1e-300))));
  int64_t best = 0;
  double highest = -std::numeric_limits<double>::infinity();
  for (int64_t t : kept(logits, n, how)) {
    const double x = logits[t] / how.temperature + noise[size_t(t)];
    if (x > highest) highest = x, best = t;
  }
  return best;
}

Tensor generate(const BlockRecurrentTransformer& model, const Tensor& prompt, int64_t length,
                const SamplingOptions& how, Generator& g, const std::function<bool(int64_t, int64_t)>& each_token) {
  how.validate();
  check(prompt.rank() == 2 && prompt.numel() > 0, "generate: the prompt has shape ", prompt.shape(),
        ", but must be [batch, 1 or more tokens]");
  check(length >= 0, "generate: the length must be 0 or more, not ", length);
  const int64_t B = prompt.dim(0), P = prompt.dim(1), V = model.config.num_tokens;
  Decoder decoder(model, B);
  std::vector<Tensor> first;
  for (int64_t row = 0; row < B; ++row)
    first.push_back(reshape(decoder.prefill(row, reshape(narrow(prompt, 0, row, 1), {P})), {1, V}));
  Tensor logits = concat(first, 0);

  std::vector<std::vector<int64_t>> made(static_cast<size_t>(B));
  bool go_on = true;
  for (int64_t i = 0; i < length && go_on; ++i) {
    if (i > 0) {
      std::vector<int64_t> last;
      for (const std::vector<int64_t>& row : made) last.push_back(row.back());
      logits = decoder.step(tensor(last, {B}));
    }
    const Tensor scores = to(logits, DType::f32);
    for (int64_t row = 0; row < B; ++row) {
      const int64_t token = sample(scores.data<float>() + row * V, V, how, g);
      made[size_t(row)].push_back(token);
      if (each_token && !each_token(row, token)) go_on = false;
    }
  }
  std::vector<int64_t> flat;
  for (const std::vector<int64_t>& row : made) flat.insert(flat.end(), row.begin(), row.end());
  return tensor(flat, {B, int64_t(made[0].size())});
}

}  // namespace rondo
