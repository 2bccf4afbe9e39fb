// Training in mixed precision, through the library and through the program.
#include <nlohmann/json.hpp>

#include "models/block_recurrent/decoder.h"
#include "models/block_recurrent/precision.h"
#include "models/block_recurrent/trainer.h"
#include "tests/decoding.h"
#include "tests/program.h"
#include "tests/runs.h"

namespace rondo::testing {
namespace {

constexpr auto kBf16 = DType::bf16;

bool pays_here() { return why_no_bf16(Device::cpu).empty(); }

}  // namespace

TEST_CASE("mixed precision: the same bits on any number of threads") {
  BlockRecurrentTransformer model = make({2}, DType::f32, 32);
  compute_in(model, kBf16);
  const auto [inputs, labels] = inputs_and_labels(reshape(random_tokens(4 * 65, 3), {4, 65}));
  const int before = num_threads();
  std::vector<Tensor> first;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    Gradients grads;
    Generator g;
    RecurrentTrainer{.model = model}(inputs, labels, {}, g, grads);
    std::vector<Tensor> found;
    for (const NamedTensor& p : parameters(model))
      if (grads.find(p.tensor)) found.push_back(grads[p.tensor]);
    if (threads == 1) first = found;
    for (size_t i = 0; i < first.size(); ++i) CHECK(same_bits(found[i], first[i]));
  }
  set_num_threads(before);
}

TEST_CASE("mixed precision: what it is not for") {
  BlockRecurrentTransformer model = make({2}, DType::f32);
  compute_in(model, kBf16);
  CHECK(error_of([&] { Decoder(model, 1); }) ==
        "Decoder: decoding computes in f32, but the model computes in bf16; compute_in(model, f32) changes that");
  CHECK(error_of([&] { compute_in(model, DType::f64); }) == "a model computes in f32 or bf16, not f64");
  BlockRecurrentTransformer narrow = make({2}, DType::f32), wide = make({2}, DType::f64);
  convert_weights(narrow, DType::i8);
  CHECK(error_of([&] { compute_in(narrow, kBf16); }) == "computing in bf16 asks for weights of f32, but these are i8");
  CHECK(error_of([&] { compute_in(wide, kBf16); }) == "computing in bf16 asks for weights of f32, but these are f64");
}

TEST_CASE("mixed precision: runs learn as in f32, resume to the bit, and keep what they were started with") {
  const Workplace work;
  const Arguments bf16 = {"--dtype", "bf16"};
  const Outcome whole = run_program(work.train("whole", 30, bf16));
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  CHECK((whole.out.find("computing in f32 instead") == whole.out.npos) == pays_here());
  REQUIRE(run_program(work.train("f32", 30)).code == 0);
  const auto bits = [&](const std::string& run) {
    const Outcome o = run_program({"eval", work / run, "--json"});
    REQUIRE_MESSAGE(o.code == 0, o.err);
    return double(nlohmann::json::parse(o.out)["bits_per_byte"]);
  };
  CHECK(std::abs(bits("whole") - bits("f32")) < 0.05);
  CHECK((bits("whole") != bits("f32")) == pays_here());

  // In document order memories, which are bf16, are carried from step to step.
  for (const char* order : {"random", "document"}) {
    const Arguments how = bf16 + Arguments{"--set", "train.order=\"" + std::string(order) + "\""};
    const std::string once = order + std::string("-once"), twice = order + std::string("-twice");
    REQUIRE(run_program(work.train(once, 30, how)).code == 0);
    REQUIRE(run_program(work.train(twice, 11, how)).code == 0);
    const Outcome resumed = run_program(work.train(twice, 30, {"--resume"}));
    REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
    for (const char* file : {"model.safetensors", "optimizer.safetensors"})
      CHECK(read_file(work / (twice + "/checkpoints/step-00000030/" + file)) ==
            read_file(work / (once + "/checkpoints/step-00000030/" + file)));
  }
  REQUIRE(run_program(work.train("stopped", 11, bf16)).code == 0);
  CHECK(complaint(work.train("stopped", 31, {"--resume", "--dtype", "f32"})) ==
        "2 rondo: train.dtype = \"f32\" differs from the run in " + (work / "stopped") +
            ", which has \"bf16\"; leave it out, or start a new run in another --out\n");
  CHECK(complaint(work.train("new", 1, {"--set", "train.dtype=f16"})) ==
        "2 rondo: train.dtype must be \"f32\" or \"bf16\", not \"f16\"\n");
  if (pays_here()) {
    const Outcome o = run_program({"bench", "train", "--size", "tiny", "--steps", "1", "--dtype", "bf16"});
    CHECK(std::string(nlohmann::json::parse(o.out)["dtype"]) == "bf16");
  }
}

}  // namespace rondo::testing
