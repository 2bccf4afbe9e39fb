// The layer of self-attention against its heads one by one, with a mask and a softmax.
#include "nn/self_attention.h"

#include <sstream>

#include "nn/module.h"
#include "tensor/allocator.h"
#include "tests/gradcheck.h"

namespace rondo::testing {
namespace {

constexpr int64_t kDim = 12, kTokens = 7;
using Options = SelfAttention::Options;

// 0 where query i sees key j, else what makes its weight nothing.
Tensor mask(const Options& how, int64_t n) {
  Tensor hidden = zeros({n, n}, DType::f64);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      if (how.causal && (j > i || (how.window > 0 && i - j >= how.window))) hidden.data<double>()[i * n + j] = -1e300;
  return hidden;
}

Tensor head_by_head(const SelfAttention& layer, const Options& how, const Tensor& x) {
  const int64_t kv_heads = how.kv_heads == 0 ? how.heads : how.kv_heads, width = kDim / how.heads;
  const Tensor q = layer.to_q(x), kv = layer.to_kv(x);
  const auto turned = [&](const Tensor& t, Rotate which) {  // by positions from the text's beginning
    return how.rotary ? rotary(t, rotary_table(50, width, x.dtype()), which, 0, 100) : t;
  };
  Tensors heads;
  for (int64_t h = 0; h < how.heads; ++h) {
    const int64_t served_by = h / (how.heads / kv_heads);
    const Tensor k = turned(narrow(kv, 2, served_by * 2 * width, width), Rotate::key),
                 v = narrow(kv, 2, (served_by * 2 + 1) * width, width);
    const Tensor scores =
        matmul(turned(narrow(q, 2, h * width, width), Rotate::query), transpose(k)) / std::sqrt(double(width));
    heads.push_back(matmul(softmax(scores + mask(how, x.dim(1))), v));
  }
  return layer.to_out(concat(heads, 2));
}

const Options kWays[] = {{.heads = 1},
                         {.heads = 3},
                         {.heads = 4, .kv_heads = 2},
                         {.heads = 6, .kv_heads = 1},
                         {.heads = 2, .kv_heads = 2, .window = 3},
                         {.heads = 3, .window = 1},
                         {.heads = 2, .window = 100},
                         {.heads = 3, .window = 2, .rotary = true},
                         {.heads = 6, .kv_heads = 2, .window = 5, .rotary = true},
                         {.heads = 2, .window = 100, .rotary = true},
                         {.heads = 4, .causal = false},
                         {.heads = 4, .kv_heads = 1, .causal = false}};

// With the layer's own weights and the input as the op's arguments.
std::vector<Tensor> inputs_of(SelfAttention& layer, const Tensor& x) {
  std::vector<Tensor> all{x};
  for (const NamedTensor& t : named_tensors(layer)) all.push_back(t.tensor);
  return all;
}
SelfAttention with_weights(SelfAttention layer, const std::vector<Tensor>& in) {
  layer.to_q.weight = in[1], layer.to_kv.weight = in[2], layer.to_out.weight = in[3];
  return layer;
}

TEST_CASE("SelfAttention: head by head, forward and backward") {
  for (const Options& how : kWays) {
    CAPTURE(how.heads);
    CAPTURE(how.kv_heads);
    CAPTURE(how.window);
    CAPTURE(how.causal);
    Generator g{.seed = 5};
    SelfAttention layer(kDim, how, g, DType::f64);
    const std::vector<Tensor> in = inputs_of(layer, randn({2, kTokens, kDim}, DType::f64, 3));
    const auto fused = run([&](const auto& t) { return with_weights(layer, t)(t[0]); }, in);
    const auto apart = run([&](const auto& t) { return head_by_head(with_weights(layer, t), how, t[0]); }, in);
    check_close(fused, apart, 1e-13, Device::cpu);
    gradcheck([&](const auto& t) { return with_weights(layer, t)(t[0]); }, in);
  }
}

TEST_CASE("SelfAttention: the residual is added, and has the gradient of the result") {
  Generator g{.seed = 5};
  for (const bool causal : {true, false}) {
    SelfAttention layer(kDim, {.heads = 2, .causal = causal}, g, DType::f64);
    std::vector<Tensor> in = inputs_of(layer, randn({1, 4, kDim}));
    in.push_back(randn({1, 4, kDim}, DType::f64, 2));
    const auto together = run([&](const auto& t) { return with_weights(layer, t)(t[0], t[4]); }, in);
    const auto apart = run([&](const auto& t) { return with_weights(layer, t)(t[0]) + t[4]; }, in);
    check_close(together, apart, 1e-14, Device::cpu);
  }
}

TEST_CASE("SelfAttention: nothing comes of nothing, and goes back to it") {
  Generator g{.seed = 5};
  for (const Options& how : kWays)
    for (const Shape& shape : {Shape{3, 0, kDim}, Shape{0, 4, kDim}}) {
      SelfAttention layer(kDim, how, g, DType::f64);
      const auto results =
          run([&](const auto& t) { return with_weights(layer, t)(t[0]); }, inputs_of(layer, zeros(shape, DType::f64)));
      CHECK(results[0].shape() == shape);
      for (size_t i = 2; i < results.size(); ++i)
        CHECK(max_abs_diff(results[i], zeros(results[i].shape(), DType::f64)) == 0);
    }
}

TEST_CASE("SelfAttention: in bf16") {
  Generator g{.seed = 5};
  for (const Options& how : kWays) {
    const SelfAttention layer(kDim, how, g);
    const Tensor x = randn({2, kTokens, kDim}, DType::bf16, 3), wide = to(x, DType::f32);
    CHECK(layer(x).dtype() == DType::bf16);
    CHECK(max_abs_diff(layer(x), layer(wide)) < 0.02);
    CHECK(layer(x, wide).dtype() == DType::f32);
    CHECK(max_abs_diff(layer(x, wide), layer(wide, wide)) < 0.02);
  }
}

TEST_CASE("SelfAttention: memory grows with the tokens, not with their square") {
  Generator g{.seed = 5};
  const SelfAttention layer(16, {.heads = 2}, g);
  const auto needed = [&](int64_t n) {
    const Tensor x = parameter(randn({8, n, 16}, DType::f32));
    Tape tape;
    const Tensor loss = sum(layer(x));
    const int64_t before = memory_stats().current_bytes;
    reset_peak_memory();
    tape.backward(loss);
    return double(memory_stats().peak_bytes - before);
  };
  CHECK(needed(1024) < 4.5 * needed(256));
}

TEST_CASE("SelfAttention: a causal one does not see what comes later") {
  Generator g{.seed = 5};
  const SelfAttention layer(kDim, {.heads = 3}, g);
  const Tensor x = randn({1, kTokens, kDim}, DType::f32);
  CHECK(max_abs_diff(narrow(layer(x), 1, 0, 3), layer(narrow(x, 1, 0, 3))) < 1e-6);
}

// The layer's result for x, read in pieces of these lengths.
Tensor in_pieces(const SelfAttention& layer, const Tensor& x, const std::vector<int64_t>& lengths,
                 SelfAttention::Past past = {}) {
  Tensors pieces;
  int64_t first = 0;
  for (const int64_t length : lengths) {
    pieces.push_back(layer(narrow(x, 1, first, length), past));
    first += length;
    const int64_t window = layer.how.window;
    CHECK(past.kv.dim(1) == (window == 0 ? first : std::min(first, window - 1)));
  }
  return concat(pieces, 1);
}

TEST_CASE("SelfAttention: read in pieces, as read at once, and so are the gradients") {
  const std::vector<int64_t> ways[] = {{1, 1, 1, 1, 1, 1, 1}, {7}, {4, 3}, {1, 5, 1}, {0, 2, 0, 5, 0}};
  Generator g{.seed = 5};
  for (const Options& how : kWays) {
    if (!how.causal) continue;
    CAPTURE(how.kv_heads);
    CAPTURE(how.window);
    SelfAttention layer(kDim, how, g, DType::f64);
    const std::vector<Tensor> in = inputs_of(layer, randn({2, kTokens, kDim}, DType::f64, 3));
    const auto at_once = run([&](const auto& t) { return with_weights(layer, t)(t[0]); }, in);
    for (const std::vector<int64_t>& lengths : ways) {
      const Op op = [&](const auto& t) { return in_pieces(with_weights(layer, t), t[0], lengths); };
      for (const Device device : devices())
        check_close(run(op, on(device, in)), at_once, device == Device::cpu ? 1e-13 : 1e-12, device);
    }
  }
}

TEST_CASE("SelfAttention: a past in bf16; one that is not the batch's, or of a layer that sees what comes later") {
  Generator g{.seed = 5};
  const SelfAttention layer(kDim, {.heads = 4, .kv_heads = 2}, g), both_ways(kDim, {.causal = false}, g);
  const Tensor x = randn({2, kTokens, kDim}, DType::bf16, 3);
  CHECK(max_abs_diff(in_pieces(layer, x, {3, 1, 3}), layer(x)) < 0.02);
  SelfAttention::Past past, kept;
  layer(x, past);
  kept = past;
  CHECK(error_of([&] {
          layer(randn({3, 1, kDim}, DType::bf16), past);
        }) == "SelfAttention: the past has shape (4, 7, 6), but x of shape (3, 1, 12) asks for (6, 7, 6)");
  CHECK(error_of([&] {
          layer(randn({2, 1, kDim}, DType::f32), past);
        }) == "window_attention: memory is bf16, but q is f32");
  CHECK(error_of([&] {
          layer(randn({2, 1, kDim}, DType::bf16), past, zeros({2, 1, kDim}, DType::i64));
        }) == "linear: residual is i64, but x is bf16, which asks for f32");
  CHECK(past.kv.data<bf16>() == kept.kv.data<bf16>());  // as it was, whatever went wrong
  past.kv = zeros({4, 2, 8}, DType::bf16);
  CHECK(error_of([&] { layer(x, past); }) ==
        "SelfAttention: the past has shape (4, 2, 8), but x of shape (2, 7, 12) asks for (4, 2, 6)");
  past.kv = zeros({7, 6});
  CHECK(error_of([&] { layer(x, past); }) ==
        "SelfAttention: the past has shape (7, 6), but x of shape (2, 7, 12) asks for (4, 0, 6)");
  CHECK(error_of([&] { both_ways(x, past); }) ==
        "SelfAttention: a past asks for causal attention, but causal is false");
}

TEST_CASE("SelfAttention: with rotary a text's place does not matter, but the distances in it do") {
  Generator g{.seed = 5};
  const SelfAttention layer(kDim, {.heads = 3, .window = 3, .rotary = true}, g, DType::f64);
  const Tensor x = randn({1, 6, kDim}), later = concat({randn({1, 7, kDim}, DType::f64, 2), x}, 1);
  // The last tokens see none that stands before x.
  CHECK(max_abs_diff(narrow(layer(x), 1, 2, 4), narrow(layer(later), 1, 9, 4)) < 1e-14);
  const Tensor a = narrow(x, 1, 0, 1), b = narrow(x, 1, 1, 1), c = narrow(x, 1, 2, 1);
  const auto last = [&](const Tensor& first, const Tensor& second) {
    return narrow(layer(concat({first, second, c}, 1)), 1, 2, 1);
  };
  CHECK(max_abs_diff(last(a, b), last(b, a)) > 1e-3);
}

TEST_CASE(
    "SelfAttention: the table of positions is one of the device and type, and ends with the layer and its copies") {
  const int64_t before = memory_stats().current_bytes;
  {
    Generator g{.seed = 5};
    const SelfAttention layer(kDim, {.heads = 3, .window = 300, .rotary = true}, g), copy = copy_of(layer);
    const int64_t without = memory_stats().current_bytes;
    const auto used = [&](const SelfAttention& by, DType dtype) {
      by(randn({1, 2, kDim}, dtype));
      return memory_stats().current_bytes - without;
    };
    const int64_t table = used(layer, DType::f32);
    CHECK(table >= 2 * 600 * 4 * 4);
    CHECK(used(copy, DType::f32) == table);
    CHECK(used(copy, DType::bf16) == table);
  }
  CHECK(memory_stats().current_bytes == before);
}

TEST_CASE("SelfAttention: names, and one key and value for the heads that share them") {
  Generator g{.seed = 5};
  const SelfAttention layer(kDim, {.heads = 6, .kv_heads = 2}, g);
  std::string all;
  for (const NamedTensor& t : parameters(layer)) {
    std::ostringstream line;
    line << t.name << " " << t.tensor.shape() << "; ";
    all += line.str();
  }
  CHECK(all == "to_q.weight (12, 12); to_kv.weight (8, 12); to_out.weight (12, 12); ");
}

TEST_CASE("SelfAttention: errors") {
  Generator g;
  const auto made = [&](Options how) { return error_of([&] { SelfAttention(kDim, how, g); }); };
  CHECK(made({.heads = 5}) == "SelfAttention: dim is 12, which is not a multiple of 5 heads");
  CHECK(made({.heads = 0}) == "SelfAttention: dim is 12, which is not a multiple of 0 heads");
  CHECK(made({.heads = 4, .kv_heads = 3}) ==
        "SelfAttention: 4 heads cannot share 3 key/value heads: give a divisor of 4");
  CHECK(made({.heads = 4, .kv_heads = -1}) ==
        "SelfAttention: 4 heads cannot share -1 key/value heads: give a divisor of 4");
  CHECK(made({.window = -1}) == "SelfAttention: the window is -1, but must be at least 1, or 0 for all");
  CHECK(made({.causal = false, .window = 3}) ==
        "SelfAttention: the window is 3, which asks for causal, but causal is false");
  CHECK(made({.rotary = true}) ==
        "SelfAttention: rotary asks for a window, the farthest that a token sees, but the window is 0");
  CHECK(made({.heads = 4, .window = 3, .rotary = true}) ==
        "SelfAttention: rotary turns pairs, but the width of a head is 3");
  CHECK(g.position == 0);
  const SelfAttention layer(kDim, {.heads = 2}, g);
  CHECK(error_of([&] { layer(zeros({4, kDim})); }) == "SelfAttention: x has shape (4, 12), but must be [batch, n, 12]");
  CHECK(error_of([&] { layer(Tensor()); }) == "SelfAttention: x is missing");
  CHECK(error_of([&] {
          layer(zeros({1, 4, 8}));
        }) == "SelfAttention: x has shape (1, 4, 8), but must be [batch, n, 12]");
  CHECK(error_of([&] {
          layer(zeros({1, 4, kDim}), zeros({4, kDim}));
        }) == "SelfAttention: the residual has shape (4, 12), but x (1, 4, 12)");
}

}  // namespace
}  // namespace rondo::testing
