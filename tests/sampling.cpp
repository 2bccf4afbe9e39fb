// Sampling and generation.
#include "models/block_recurrent/sampling.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/testing.h"

namespace rondo::testing {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, -5.0f, 3.5f};

std::map<int64_t, int> draws(const SamplingOptions& how, int n = 4000) {
  Generator g{1, 0, 0};
  std::map<int64_t, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sample(kLogits.data(), 5, how, g)];
  return counts;
}

TEST_CASE("sample: temperature 0 is greedy") {
  Generator g;
  CHECK(sample(kLogits.data(), 5, {.temperature = 0}, g) == 4);
  CHECK(g.position == 0);
}

TEST_CASE("sample: frequencies are those of the softmax") {
  for (double temperature : {1.0, 2.0}) {
    auto counts = draws({.temperature = temperature}, 40000);
    double total = 0;
    for (float x : kLogits) total += std::exp(x / temperature);
    for (int64_t t = 0; t < 5; ++t)
      CHECK(counts[t] / 40000.0 ==
            doctest::Approx(std::exp(kLogits[size_t(t)] / temperature) / total).epsilon(0.05).scale(0.1));
  }
}

TEST_CASE("sample: what is skipped could not have won") {
  constexpr int64_t kTokens = 50;
  Generator g{2, 0, 3}, noise = g;  // places of every kind in Philox's blocks of four
  for (int i = 0; i < 3000; ++i) {
    const Tensor logits = randn({kTokens}, DType::f32, uint64_t(i % 100));
    const double temperature = i % 3 ? 0.3 * (i % 3) : 5;
    double highest = -INFINITY;
    int64_t best = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      const double x = logits.data<float>()[t] / temperature - std::log(-std::log(noise.uniform()));
      if (x > highest) highest = x, best = t;
    }
    CHECK(sample(logits.data<float>(), kTokens, {.temperature = temperature}, g) == best);
    CHECK(g == noise);
    g.next(), noise.next();
  }
}

TEST_CASE("sample: top-k, top-p and min-p keep the likeliest") {
  CHECK(draws({.top_k = 1}).size() == 1);
  auto two = draws({.top_k = 2});
  CHECK(two.size() == 2);
  CHECK(two.count(4) + two.count(1) == 2);
  CHECK(draws({.top_k = 50}).size() >= 4);
  CHECK(draws({.top_p = 0.1}).size() == 1);  // at least one is kept
  CHECK(draws({.top_p = 0.6}).size() == 2);  // 0.524 + 0.318
  CHECK(draws({.min_p = 0.5}).size() == 2);  // exp(-0.5) = 0.607, exp(-1.5) = 0.223
  CHECK(draws({.min_p = 1}).size() == 1);
  CHECK(top_k_of_filter_thres(0.9, 256) == 26);
}

TEST_CASE("sample: a repetition penalty makes what came lately less likely") {
  Generator g;
  const std::vector<int64_t> recent = {1, 4, 4, 3};
  const auto greedy = [&](double penalty, int64_t window) {
    return sample(kLogits.data(), 5, {.temperature = 0, .repetition_penalty = penalty, .repetition_window = window}, g,
                  recent);
  };
  CHECK(greedy(1, 64) == 4);
  CHECK(greedy(1.1, 64) == 4);  // 3.18 beats 2.73, and 2
  CHECK(greedy(1.6, 3) == 1);   // 3.5 / 1.6 = 2.19; 1 is further back
  CHECK(greedy(1.6, 64) == 4);
  CHECK(greedy(2, 64) == 2);
  CHECK(greedy(2, 1) == 4);
  const std::vector<float> negative = {-1.0f, -1.5f};
  CHECK(sample(negative.data(), 2, {.temperature = 0, .repetition_penalty = 2}, g, std::vector<int64_t>{0}) == 1);
}

TEST_CASE("sample: at the smallest temperatures the likeliest") {
  for (const double temperature : {1e-300, 1e-310, 5e-324})
    for (const float shift : {0.0f, 1000.0f, -1000.0f}) {
      const float logits[] = {1 + shift, 3 + shift, 2 + shift, -4 + shift};
      Generator g{.seed = 3};
      for (int i = 0; i < 20; ++i) CHECK(sample(logits, 4, {.temperature = temperature}, g) == 1);
    }
}

TEST_CASE("log_probability: of the model, whatever the sampling") {
  CHECK(log_probability(kLogits.data(), 5, 4) == doctest::Approx(std::log(0.52303)).epsilon(1e-4));
  double sum = 0;
  for (int64_t t = 0; t < 5; ++t) sum += std::exp(log_probability(kLogits.data(), 5, t));
  CHECK(sum == doctest::Approx(1));
}

TEST_CASE("sample: errors") {
  CHECK(error_of([] { SamplingOptions{.repetition_penalty = 0}.validate(); }) ==
        "repetition-penalty must be from 0.001 to 1000 (1: none), not 0");
  CHECK(error_of([] { SamplingOptions{.repetition_window = 2000}.validate(); }) ==
        "repetition-window must be 0 to 1024, not 2000");
  CHECK(error_of([] { SamplingOptions{.temperature = -1}.validate(); }) ==
        "temperature must be 0 (greedy) or more, not -1");
  CHECK(error_of([] { SamplingOptions{.top_k = -1}.validate(); }) == "top-k must be 0 (all) or more, not -1");
  CHECK(error_of([] { SamplingOptions{.top_p = 0}.validate(); }) == "top-p must be above 0 and at most 1, not 0");
  CHECK(error_of([] { SamplingOptions{.min_p = 2}.validate(); }) == "min-p must be 0 to 1, not 2");
  const float nothing[] = {-INFINITY, -INFINITY}, one[] = {-INFINITY, 0};
  Generator g;
  CHECK(error_of([&] { sample(one, 2, {.temperature = -1}, g); }) == "temperature must be 0 (greedy) or more, not -1");
  CHECK(error_of([&] { sample(nothing, 2, {}, g); }) == "sample: every token's logit is -infinity");
  CHECK(sample(one, 2, {}, g) == 1);
  CHECK(error_of([&] { sample(one, 0, {}, g); }) == "sample: there are 0 tokens to choose from");
  CHECK(error_of([&] {
          sample(one, 2, {.repetition_penalty = 2}, g, std::vector<int64_t>{0, 2});
        }) == "sample: 2 was written lately, but there are 2 tokens");
  CHECK(error_of([&] { log_probability(one, 2, 2); }) == "log_probability: there is no token 2 among 2");
  CHECK(error_of([] { top_k_of_filter_thres(0, INT64_MAX); }) ==
        "filter_thres asks for tokens to choose from, not 9223372036854775807");
  CHECK(error_of([] { top_k_of_filter_thres(1, 5); }) == "filter_thres must be at least 0 and below 1, not 1");
}

struct Fixture {
  Generator g{3, 0, 0};
  BlockRecurrentTransformer model;
  Fixture() : model(config(), g) {}
  static BlockRecurrentConfig config() {
    BlockRecurrentConfig c;
    c.num_tokens = 11, c.dim = 12, c.depth = 2, c.dim_head = 4, c.heads = 2;
    c.max_seq_len = 8, c.block_width = 4, c.num_state_vectors = 3, c.recurrent_layers = {{1}};
    return c;
  }
};

TEST_CASE("generate: greedy text equals that of whole segments, computed anew for each token") {
  Fixture f;
  for (int64_t prompt_length : {1, 3, 4, 5, 8, 13}) {
    std::vector<int64_t> prompt;
    for (int64_t i = 0; i < prompt_length; ++i) prompt.push_back(i * 5 % 11);
    const Tensor made = generate(f.model, tensor(prompt, {1, prompt_length}), 20, {.temperature = 0}, f.g);
    CHECK(made.shape() == Shape{1, 20});
    std::vector<int64_t> all = prompt;
    for (int64_t i = 0; i < 20; ++i) {
      Carried carried;
      Tensor logits;
      for (int64_t start = 0; start < int64_t(all.size()); start += 8) {
        const int64_t n = std::min<int64_t>(8, int64_t(all.size()) - start);
        const auto r =
            f.model(tensor(std::vector<int64_t>(all.begin() + start, all.begin() + start + n), {1, n}), carried);
        carried = r.carried, logits = narrow(r.logits, 1, n - 1, 1);
      }
      const std::vector<float> l = logits.to_vector<float>();
      all.push_back(std::max_element(l.begin(), l.end()) - l.begin());
      CHECK(made.to_vector<int64_t>()[size_t(i)] == all.back());
    }
  }
}

TEST_CASE("generate: rows of a batch, a seed, and stopping early") {
  Fixture f;
  const Tensor prompt = tensor<int64_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  Generator a{9, 0, 0}, b{9, 0, 0};
  CHECK(same_bits(generate(f.model, prompt, 12, {}, a), generate(f.model, prompt, 12, {}, b)));
  const Tensor greedy = generate(f.model, prompt, 9, {.temperature = 0}, a);
  CHECK(same_bits(narrow(greedy, 0, 1, 1), generate(f.model, narrow(prompt, 0, 1, 1), 9, {.temperature = 0}, a)));
  int tokens = 0;
  CHECK(generate(f.model, prompt, 12, {}, a, [&](int64_t, int64_t) { return ++tokens < 6; }).shape() == Shape{2, 3});
  CHECK(error_of([&] {
          generate(f.model, zeros({1, 0}, DType::i64), 3, {}, a);
        }) == "generate: the prompt has shape (1, 0), but must be [batch, 1 or more tokens]");
}

}  // namespace
}  // namespace rondo::testing
