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
  check(repetition_penalty >= 1e-3 && repetition_penalty <= 1e3,
        "repetition-penalty must be from 0.001 to 1000 (1: none), not ", repetition_penalty);
  check(repetition_window >= 0 && repetition_window <= int64_t(Decoder::kRecent), "repetition-window must be 0 to ",
        Decoder::kRecent, ", not ", repetition_window);
}

int64_t top_k_of_filter_thres(double threshold, int64_t num_tokens) {
  check(threshold >= 0 && threshold < 1, "filter_thres must be at least 0 and below 1, not ", threshold);
  check(num_tokens >= 1 && num_tokens <= int64_t{1} << 53, "filter_thres asks for tokens to choose from, not ",
        num_tokens);
  return int64_t(std::ceil((1 - threshold) * double(num_tokens)));
}

namespace {

// What sample works with, kept from call to call: a token asks for no memory.
struct Scratch {
  std::vector<int64_t> order;
  std::vector<double> p;
  std::vector<float> less;
};

// The tokens that the filters keep, in s.order; of two equally likely ones the first.
void keep(const float* logits, int64_t n, const SamplingOptions& how, Scratch& s) {
  std::vector<int64_t>& order = s.order;
  order.resize(size_t(n));
  std::iota(order.begin(), order.end(), 0);
  const bool by_probability = how.top_p < 1 || how.min_p > 0;
  const int64_t k = how.top_k > 0 ? std::min(how.top_k, n) : n;
  if (k < n || by_probability)
    std::partial_sort(order.begin(), order.begin() + k, order.end(),
                      [&](int64_t a, int64_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  order.resize(size_t(k));
  if (!by_probability) return;

  std::vector<double>& p = s.p;
  p.clear();
  for (int64_t t : order) p.push_back(std::exp(double(logits[t]) - logits[order[0]]));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  size_t left = 0;
  for (double reached = 0; left < p.size() && (left == 0 || reached < how.top_p * total); ++left) reached += p[left];
  while (left > 1 && p[left - 1] < how.min_p * p[0]) --left;
  order.resize(left);
}

void penalise(double penalty, std::span<const int64_t> recent, const float* logits, std::vector<float>& less) {
  for (const int64_t t : recent) {  // once, however often it came
    check(t >= 0 && t < int64_t(less.size()), "sample: ", t, " was written lately, but there are ", less.size(),
          " tokens");
    const float x = logits[t];
    less[size_t(t)] = float(x > 0 ? x / penalty : x * penalty);
  }
}

}  // namespace

double log_probability(const float* logits, int64_t n, int64_t token) {
  check(token >= 0 && token < n, "log_probability: there is no token ", token, " among ", n);
  const double top = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(logits[i] - top);
  return logits[token] - top - std::log(sum);
}

int64_t sample(const float* logits, int64_t n, const SamplingOptions& how, Generator& g,
               std::span<const int64_t> recent) {
  how.validate();
  check(n >= 1, "sample: there are ", n, " tokens to choose from");
  bool finite = true;  // a NaN is less than nothing
  for (int64_t i = 0; i < n; ++i) finite &= logits[i] < std::numeric_limits<float>::infinity();
  check(finite, "the model's logits are not finite: its weights are broken");
  thread_local Scratch s;
  if (how.repetition_penalty != 1) {
    s.less.assign(logits, logits + n);
    penalise(how.repetition_penalty, recent.last(std::min(recent.size(), size_t(how.repetition_window))), logits,
             s.less);
    logits = s.less.data();
  }
  const int64_t likeliest = std::max_element(logits, logits + n) - logits;
  check(logits[likeliest] > -std::numeric_limits<float>::infinity(), "sample: every token's logit is -infinity");
  if (how.temperature == 0) return likeliest;
  keep(logits, n, how, s);
  // Every token has noise of its own, kept or not: the draws do not depend on the filters.
  Generator noise = g;
  g.position += 2 * uint64_t(n);
  int64_t best = likeliest;
  double highest = -std::numeric_limits<double>::infinity();
  for (int64_t t : s.order) {
    noise.position = g.position - 2 * uint64_t(n - t);
    const double u = noise.uniform(), x = (double(logits[t]) - logits[likeliest]) / how.temperature;
    // -log(-log u) <= -log(1 - u): two logarithms only for those that can win.
    if ((1 - u) * (1 - 1e-9) > std::exp(x - highest)) continue;
    const double sum = x - std::log(-std::log(std::max(u, 1e-300)));
    if (sum > highest) highest = sum, best = t;
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
    const Tensor scores = to(to(logits, DType::f32), Device::cpu);
    for (int64_t row = 0; row < B; ++row) {
      const int64_t token = sample(scores.data<float>() + row * V, V, how, g, decoder.recent(row));
      made[size_t(row)].push_back(token);
      if (each_token && !each_token(row, token)) go_on = false;
    }
  }
  std::vector<int64_t> flat;
  for (const std::vector<int64_t>& row : made) flat.insert(flat.end(), row.begin(), row.end());
  return tensor(flat, {B, int64_t(made[0].size())});
}

}  // namespace rondo
