// The model on a GPU, or on its emulation, beside the CPU: parity with the reference, training, decoding, and files
// that move between devices. Names begin with "cuda": where there is no such device, main.cpp skips them, visibly.
#include <filesystem>

#include "apps/checkpoint.h"
#include "apps/parity.h"
#include "apps/run.h"
#include "apps/training.h"
#include "autograd/tape.h"
#include "models/block_recurrent/continuation.h"
#include "models/block_recurrent/trainer.h"
#include "nn/data_parallel.h"
#include "nn/file.h"
#include "tests/decoding.h"
#include "tests/temporary.h"

namespace rondo::testing {
namespace {

// A small model of fixed weights, with a recurrent layer.
BlockRecurrentTransformer model_on(Device device, DType dtype = DType::f32) {
  BlockRecurrentTransformer model = make({2}, dtype);
  model.to(device);
  return model;
}

void check_case(const std::string& name) {
  const GoldenCase c = read_golden_case(RONDO_GOLDENS "/" + name);
  const ParityReport report =
      compare_golden_case(c, compute_golden_case(c, Device::cuda), tolerance_factor(Device::cuda));
  CHECK(!report.comparisons.empty());
  for (const Comparison& t : report.comparisons)
    CHECK_MESSAGE(t.holds(), t.name, ": error ", t.error, ", at most ", t.tolerance, " ", t.note);
}

// The losses of some steps, then the weights.
std::vector<double> trained(Device device) {
  const BlockRecurrentTransformer model = model_on(device, DType::f64);
  Adam adam(parameters(model), {.learning_rate = 0.01, .clip_grad_norm = 0.5});
  const auto [tokens, labels] = inputs_and_labels(reshape(random_tokens(2 * 21, 3), {2, 21}));
  const RecurrentTrainer trainer{.model = model, .xl_memories_dropout = 0.5, .state_dropout = 0.5};
  std::vector<double> all;
  Generator g{1, 2, 0};
  Carried carried;
  for (int step = 0; step < 3; ++step) {
    Gradients grads;
    RecurrentTrainer::Result result = trainer(tokens, labels, carried, g, grads);
    carried = std::move(result.carried);
    all.push_back(result.loss());
    all.push_back(adam.step(grads).item());
  }
  for (const NamedTensor& t : named_tensors(model))
    for (double v : values(t.tensor)) all.push_back(v);
  return all;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= worst)) worst = std::abs(a[i] - b[i]);
  return worst;
}

}  // namespace

// The larger cases would take the emulation minutes; tools/gpu.sh has them all.
TEST_CASE("cuda parity: an odd number of heads") { check_case("odd_heads"); }
TEST_CASE("cuda parity: a single state vector") { check_case("one_state"); }
TEST_CASE("cuda parity: segments of one block") { check_case("one_block"); }
TEST_CASE("cuda parity: a vocabulary of 300") { check_case("vocabulary_300"); }
TEST_CASE("cuda parity: no recurrent layer") { check_case("no_recurrence"); }

TEST_CASE("cuda training: the CPU's losses, norms and weights; the same bits again") {
  const std::vector<double> there = trained(Device::cuda);
  CHECK(largest_difference(there, trained(Device::cpu)) < 1e-9);  // Adam divides small differences by small gradients
  CHECK(there == trained(Device::cuda));
}

TEST_CASE("cuda parameters are none of DataParallel's") {
  const NamedTensor weight = {"w", parameter(zeros({2}, DType::f32, Device::cuda)), true};
  Gradients grads;
  const auto loss = [&](int64_t, int64_t) { return sum(weight.tensor); };
  CHECK(error_of([&] { DataParallel({weight}).backward(2, 2, loss, grads); }) ==
        "DataParallel: w is on cuda, but threads share out the work of a CPU; record on one tape there");
}

TEST_CASE("cuda random numbers are the CPU's") {
  for (DType d : {DType::f32, DType::f64}) {
    const Tensor here({100}, d), there({100}, d, Device::cuda);
    for (const Tensor& t : {here, there}) {
      Generator g{3, 4, 5};
      fill_uniform(t, -1, 1, g);
      CHECK(g.position == 205);
    }
    CHECK(same_bits(here, to(there, Device::cpu)));
  }
}

TEST_CASE("cuda decoding: the full forward pass, and the CPU's text") {
  const BlockRecurrentTransformer here = model_on(Device::cpu, DType::f64), there = model_on(Device::cuda, DType::f64);
  const Tensor tokens = random_tokens(37, 1), expected = full_forward(here, tokens);
  Decoder decoder(there, 1);
  decoder.prefill(0, to(narrow(tokens, 0, 0, 11), Device::cuda));
  CHECK(max_abs_diff(decoder.logits(0), row(expected, 10)) < 1e-12);
  for (int64_t i = 11; i < 37; ++i)
    CHECK(max_abs_diff(reshape(decoder.step(narrow(tokens, 0, i, 1)), {20}), row(expected, i)) < 1e-12);

  const Tensor prompt = reshape(random_tokens(2 * 5, 2), {2, 5});
  for (double temperature : {0.0, 1.0}) {
    SamplingOptions how;
    how.temperature = temperature;
    Generator g{1, 0, 0}, h{1, 0, 0};
    CHECK(same_bits(generate(here, prompt, 30, how, g), generate(there, prompt, 30, how, h)));
  }
}

TEST_CASE("cuda decoding: speculation, forks, and states that move between devices") {
  const BlockRecurrentTransformer models[] = {model_on(Device::cpu), model_on(Device::cuda)};
  const Temporary folder;
  const auto written = [](Decoder& decoder, int64_t draft) {
    Continuation text(decoder, 0, {.temperature = 0}, {1, 0, 0}, draft);
    std::vector<int64_t> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(text.next().token);
    return tokens;
  };
  Decoder first(models[0], 1);
  first.prefill(0, random_tokens(13, 4));
  const std::string file = folder / "state.safetensors";
  first.save(file);
  const std::vector<int64_t> expected = written(first, 0);
  for (const BlockRecurrentTransformer& model : models) {
    Decoder loaded = Decoder::load(model, file), fork = loaded.fork(0, 2);
    loaded.save(folder / "again.safetensors");
    CHECK(read_file(folder / "again.safetensors") == read_file(file));
    CHECK(written(loaded, 0) == expected);
    CHECK(written(fork, 4) == expected);
  }
}

TEST_CASE("cuda runs: stopped on one device and resumed on another") {
  const Temporary folder;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the fox runs away; ";
  write_file(folder / "text.txt", text);
  RunConfig config = named_size("tiny");
  config.model.dim = 16, config.model.dim_head = 8, config.model.heads = 2;
  config.model.max_seq_len = 16, config.model.block_width = 8, config.model.num_state_vectors = 8;
  config.train.batch_size = 2, config.train.order = "document", config.train.validation_segments = 1;
  config.data.files = {folder / "text.txt"};
  const auto run = [&](const std::string& name, Device device, int64_t steps) {
    config.runtime.device = device == Device::cpu ? "cpu" : "cuda";
    config.train.steps = steps;
    const std::string out = folder / name;
    train({config, out, latest_checkpoint(out)});
    return latest_checkpoint(out);
  };
  const auto weights = [](const std::string& checkpoint, Device device) {
    return named_tensors(load_model(checkpoint, device).model);
  };
  const std::string whole = run("whole", Device::cuda, 4);
  for (const Device then : {Device::cpu, Device::cuda}) {
    const std::string name = then == Device::cpu ? "moved" : "stopped";
    run(name, Device::cuda, 2);
    const std::string resumed = run(name, then, 4);
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "carried.safetensors"})
      if (then == Device::cuda) CHECK_MESSAGE(read_file(resumed + "/" + file) == read_file(whole + "/" + file), file);
    const std::vector<NamedTensor> a = weights(resumed, Device::cpu), b = weights(whole, Device::cuda);
    for (size_t i = 0; i < a.size(); ++i) CHECK_MESSAGE(max_abs_diff(a[i].tensor, b[i].tensor) < 1e-4, a[i].name);
  }
}

}  // namespace rondo::testing
