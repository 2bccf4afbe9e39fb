// Weights in fewer bits: the products with them, what they lose, and checkpoints of them.
#include "models/block_recurrent/precision.h"

#include <nlohmann/json.hpp>

#include "models/block_recurrent/decoder.h"
#include "nn/safetensors.h"
#include "tests/decoding.h"
#include "tests/program.h"

namespace rondo::testing {
namespace {

Tensor int8_weight(int64_t n, int64_t k) {
  Tensor w({n, k}, DType::i8);
  for (int64_t i = 0; i < n * k; ++i) w.data<int8_t>()[i] = int8_t(i * 37 % 255 - 127);
  return w;
}

}  // namespace

TEST_CASE("linear: weights of bf16 and i8, few rows and many") {
  for (int64_t rows : {1, 3, 16, 17, 40})
    for (int64_t k : {1, 7, 33, 300})
      for (int64_t n : {1, 4, 9}) {
        const Tensor x = randn({rows, k}, DType::f32), bias = randn({n}, DType::f32, 5);
        const Tensor narrow_weight = to(randn({n, k}, DType::f32, 2), DType::bf16);
        CHECK(max_abs_diff(linear(x, narrow_weight, bias), linear(x, to(narrow_weight, DType::f32), bias)) < 1e-4);
        const Tensor weight = int8_weight(n, k), scale = randn({n}, DType::f32, 3);
        const Tensor wide = to(weight, DType::f32) * reshape(scale, {n, 1});
        CHECK(max_abs_diff(linear(x, weight, bias, {}, scale), linear(x, wide, bias)) < 1e-2);  // sums of about 1e4
      }
}

TEST_CASE("linear: a row has the same bits among few rows as alone") {
  const Tensor x = randn({16, 100}, DType::f32), bias = randn({33}, DType::f32, 5);
  const Tensor wide = randn({33, 100}, DType::f32, 2), scales = randn({33}, DType::f32, 3);
  for (const auto& [w, scale] :
       {std::pair{wide, Tensor()}, {to(wide, DType::bf16), Tensor()}, {int8_weight(33, 100), scales}}) {
    const Tensor y = linear(x, w, bias, {}, scale);
    for (int64_t i = 0; i < 16; ++i)
      CHECK(same_bits(linear(narrow(x, 0, i, 1), w, bias, {}, scale), narrow(y, 0, i, 1)));
  }
}

TEST_CASE("linear: narrow weights are for inference in f32") {
  const Tensor x = randn({2, 3}, DType::f32), w = int8_weight(4, 3), scale = randn({4}, DType::f32);
  CHECK(error_of([&] { linear(to(x, DType::f64), w, {}, {}, scale); }) ==
        "linear: weight is i8, which asks for an x of f32 and no tape: it is for inference only");
  CHECK(error_of([&] { linear(x, w); }) ==
        "linear: weight is i8 (4, 3) and its scale has shape (), but i8 asks for f32 (4) and bf16 for none");
  Tape tape;
  CHECK(error_of([&] { linear(x, w, {}, {}, scale); }) ==
        "linear: weight is i8, which asks for an x of f32 and no tape: it is for inference only");
}

TEST_CASE("convert_weights: half a step is the most that a weight moves") {
  BlockRecurrentTransformer model = make({2}, DType::f32);
  const Tensor before = clone(model.layers[1].feed_forward.in.weight);
  model.layers[1].feed_forward.in.weight.data<float>()[0] = 0;
  convert_weights(model, DType::i8);
  CHECK(weights_dtype(model) == DType::i8);
  const Linear& l = model.layers[1].feed_forward.in;
  const Tensor after = to(l.weight, DType::f32) * reshape(l.weight_scale, {l.weight.dim(0), 1});
  for (int64_t i = 1; i < before.numel(); ++i)
    CHECK(std::abs(after.data<float>()[i] - before.data<float>()[i]) <=
          0.501f * l.weight_scale.data<float>()[i / before.dim(1)]);
  CHECK(error_of([&] { convert_weights(model, DType::bf16); }) == "only f32 weights are converted, but these are i8");
  CHECK(error_of([&] { weights_dtype("int4"); }) == "weights are f32, bf16 or int8, not int4");
}

TEST_CASE("convert_weights: int8 has no number for a NaN; what is tiny becomes 0") {
  for (const float bad : {NAN, -INFINITY}) {
    BlockRecurrentTransformer model = make({2}, DType::f32);
    model.layers[1].feed_forward.in.weight.data<float>()[7] = bad;
    CHECK(error_of([&] { convert_weights(model, DType::i8); }) ==
          "layers.1.1.1.weight holds a NaN or an infinity, for which int8 has no number");
    CHECK(weights_dtype(model) == DType::f32);
  }
  BlockRecurrentTransformer model = make({2}, DType::f32);
  Linear& l = model.layers[1].feed_forward.in;
  assign(full(l.weight.shape(), 1e-40), l.weight);
  convert_weights(model, DType::i8);
  CHECK(max_abs_diff(l.weight, zeros(l.weight.shape(), DType::i8)) == 0);
}

TEST_CASE("decoder: weights of bf16 and i8 decode as their full forward pass") {
  for (const DType dtype : {DType::bf16, DType::i8}) {
    BlockRecurrentTransformer model = make({1, 3}, DType::f32);
    convert_weights(model, dtype);
    const Tensor tokens = random_tokens(40, 3), expected = full_forward(model, tokens);
    Decoder decoder(model, 1);
    for (int64_t i = 0; i < 40; ++i)
      CHECK(max_abs_diff(row(decoder.step(narrow(tokens, 0, i, 1)), 0), row(expected, i)) < 1e-4);
  }
}

TEST_CASE("a converted checkpoint evaluates, writes, and costs next to nothing") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 150, {"--set", "optimizer.learning_rate=0.01"})).code == 0);
  const auto bits = [&](const std::string& path) {
    const Outcome o = run_program({"eval", path, "--json"});
    REQUIRE_MESSAGE(o.code == 0, o.err);
    return double(nlohmann::json::parse(o.out)["bits_per_byte"]);
  };
  const double full = bits(work / "run");
  for (const std::string dtype : {"bf16", "int8"}) {
    const Outcome o = run_program({"convert", work / "run", "--dtype", dtype, "--out", work / dtype});
    REQUIRE_MESSAGE(o.code == 0, o.err);
    CHECK(o.out.starts_with(dtype + ": "));
    CHECK(std::abs(bits(work / dtype) - full) <= 0.01);
    CHECK(bits(work / dtype) != full);
    CHECK(run_program({"generate", work / dtype, "--seed", "1", "--length", "40", "--speculate", "4"}).out ==
          run_program({"generate", work / dtype, "--seed", "1", "--length", "40"}).out);
  }
  const SafetensorsFile file = read_safetensors(work / "int8/model.safetensors");
  CHECK(file.metadata.at("weights") == "int8");
  CHECK(file.tensors.at("layers.0.0.to_q.weight").dtype() == DType::i8);
  CHECK(file.tensors.at("layers.0.0.to_q.weight_scale").shape() == Shape{16});

  CHECK(complaint({"convert", work / "run", "--dtype", "int8", "--out", work / "int8"}) ==
        "2 rondo: " + (work / "int8") + ": there is something already; choose another --out\n");
  std::filesystem::create_directory(work / "empty");  // as a conversion leaves it that was broken off
  CHECK(run_program({"convert", work / "run", "--dtype", "int8", "--out", work / "empty"}).code == 0);
  CHECK(complaint({"convert", work / "int8", "--dtype", "bf16", "--out", work / "again"}) ==
        "1 rondo: " + (work / "int8") +
            ": its weights are int8 already; convert the f32 checkpoint that they were made from\n");
  CHECK(complaint({"convert", work / "none", "--dtype", "bf16", "--out", work / "again"}) ==
        "1 rondo: " + (work / "none") + ": no such run or checkpoint\n");
  const std::string weights = work / "int8/model.safetensors";
  std::vector<NamedTensor> tensors;
  for (const auto& [name, t] : file.tensors) tensors.push_back({name, t, false});
  write_safetensors(weights, tensors, {{"weights", "int4"}});
  CHECK(complaint({"eval", work / "int8"}) == "1 rondo: " + weights + ": weights are f32, bf16 or int8, not int4\n");
  CHECK(complaint({"chat", work / "none"}) == "1 rondo: " + (work / "none") + ": no such run or checkpoint\n");
  CHECK(complaint({"bench", "train", "--dtype", "int8"}) ==
        "2 rondo: --dtype int8 is for bench decode; bench train computes in f32 or bf16\n");
}

TEST_CASE("a model whose loss is no number is neither converted nor measured") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 2)).code == 0);
  const std::string checkpoint = work.checkpoint("run", "00000002"), weights = checkpoint + "/model.safetensors";
  std::vector<NamedTensor> broken;
  for (const auto& [name, t] : read_safetensors(weights).tensors) broken.push_back({name, t, false});
  for (const NamedTensor& t : broken)
    if (t.name == "to_logits.1.weight") t.tensor.data<float>()[0] = NAN;
  write_safetensors(weights, broken);
  const std::string said = "1 rondo: " + checkpoint + ": the loss of this model is not finite\n";
  CHECK(complaint({"convert", work / "run", "--dtype", "int8", "--out", work / "int8"}) == said);
  CHECK(std::filesystem::is_empty(work / "int8"));
  CHECK(complaint({"eval", work / "run"}) == said);
}

}  // namespace rondo::testing
