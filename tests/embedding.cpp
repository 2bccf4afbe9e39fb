// Embedding, against plain loops and differences.
#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

Tensor tokens_below(int64_t n_rows, const Shape& shape, uint64_t seed = 1) {
  Tensor tokens(shape, DType::i64);
  Generator g{seed, 3, 0};
  for (int64_t i = 0; i < tokens.numel(); ++i) tokens.data<int64_t>()[i] = g.below(n_rows);
  return tokens;
}

Op rows_for(const Tensor& tokens) {
  return [=](const std::vector<Tensor>& in) { return embedding(in[0], to(tokens, in[0].device())); };
}

}  // namespace

TEST_CASE("embedding: gradients") {
  for (uint64_t seed : {1, 2, 3})
    for (int64_t d : {1, 5, 33, 70})
      gradcheck(rows_for(tokens_below(7, {3, 5}, seed)), {randn({7, d}, DType::f64, seed)});
  gradcheck(rows_for(tensor<int64_t>({0, 0, 0, 2}, {4})), {randn({3, 100})});
  gradcheck(rows_for(tokens_below(2, {})), {randn({2, 6})});
}

TEST_CASE("embedding: the same as one row after the other") {
  for (int64_t d : {1, 33, 64, 1000}) {
    const Tensor weight = randn({50, d}), tokens = tokens_below(40, {30, 20}, 2),
                 w = randn({30, 20, d}, DType::f64, 99);
    const std::vector<Tensor> results = run(rows_for(tokens), {weight});
    CHECK(results[0].shape() == Shape{30, 20, d});
    Tensor y = empty_like(w), dweight = zeros_like(weight);
    for (int64_t i = 0; i < tokens.numel(); ++i)
      for (int64_t j = 0; j < d; ++j) {
        const int64_t at = tokens.data<int64_t>()[i] * d + j;
        y.data<double>()[i * d + j] = weight.data<double>()[at];
        dweight.data<double>()[at] += w.data<double>()[i * d + j];
      }
    CHECK(same_bits(results[0], y));
    CHECK(same_bits(results[1], dweight));  // added in the tokens' order; rows that no token chose are zero
  }
}

TEST_CASE("embedding: f32") {
  // Some 8 equal tokens, each adding a rounding of 6e-8.
  check_f32_against_f64(rows_for(tokens_below(256, {2048})), {randn({256, 48})}, 1e-6);
}

TEST_CASE("embedding: empty tensors") {
  const std::vector<Tensor> results = run(rows_for(Tensor({2, 0}, DType::i64)), {randn({4, 3})});
  CHECK(results[0].shape() == Shape{2, 0, 3});
  CHECK(max_abs_diff(results[1], zeros({4, 3})) == 0);
  CHECK(run(rows_for(Tensor({0}, DType::i64)), {Tensor({0, 3}, DType::f64)})[1].shape() == Shape{0, 3});
  CHECK(run(rows_for(tokens_below(4, {5})), {Tensor({4, 0}, DType::f64)})[0].shape() == Shape{5, 0});
}

TEST_CASE("embedding: the same bits on any number of threads") {
  check_same_bits_on_threads(rows_for(tokens_below(256, {2, 1024})), {randn({256, 512}, DType::f32)});
  check_same_bits_on_threads(rows_for(tokens_below(9, {700})), {randn({9, 1000}, DType::f32)});
}

TEST_CASE("embedding: errors") {
  const Tensor weight = randn({4, 3}, DType::f32);
  for (Device device : devices()) {  // tokens that come from the CPU are looked at, wherever the op computes
    const auto with = [&](std::vector<int64_t> tokens) {
      const int64_t n = int64_t(tokens.size());
      return error_of([&] { embedding(to(weight, device), tensor<int64_t>(tokens, {n})); });
    };
    CHECK(with({0, 3}) == "(no error)");
    CHECK(with({0, 1, 4}) == "embedding: tokens hold 4 at index 2, but weight (4, 3) has V = 4 rows");
    CHECK(with({0, -1, 4}) == "embedding: tokens hold -1 at index 1, but weight (4, 3) has V = 4 rows");
  }
  CHECK(error_of([&] {
          embedding(Tensor(Shape{0, 3}), tensor<int64_t>({0}, {1}));
        }) == "embedding: weight (0, 3) has no rows, but tokens (1) ask for some");
  CHECK(error_of([&] { embedding(randn({4}), tensor<int64_t>({0}, {1})); }) ==
        "embedding: weight has shape (4), but the op asks for (V, d)");
  CHECK(error_of([&] { embedding(weight, Tensor({2}, DType::u8)); }) ==
        "embedding: tokens is u8, but indices are i64; to(tensor, DType::i64) makes them so");
  CHECK(error_of([&] { embedding({}, tensor<int64_t>({0}, {1})); }) == "embedding: weight is missing");
}
