// What a golden case computes, by Rondo.
#include "apps/parity.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "models/block_recurrent/sampling.h"
#include "models/block_recurrent/trainer.h"

namespace rondo {
namespace {

const Tensor& input(const GoldenCase& c, const std::string& name, int rank) {
  const auto found = c.expected.find(name);
  check(found != c.expected.end(), c.path, "/expected.safetensors: there is no ", name);
  const Tensor& t = found->second;
  check(t.dtype() == DType::i64 && t.rank() == rank, c.path, "/expected.safetensors: ", name, " is ", t.dtype(), " ",
        t.shape(), ", but must be i64 with ", rank, " dimensions");
  return t;
}

// Columns begin..begin+n-1 of rows of tokens.
Tensor columns(const GoldenCase& c, const Tensor& rows, int64_t begin, int64_t n) {
  check(begin + n <= rows.dim(1), c.path, ": ", begin + n, " tokens a row are needed, but there are ", rows.dim(1));
  Tensor part({rows.dim(0), n}, DType::i64);
  for (int64_t b = 0; b < rows.dim(0); ++b)
    std::copy_n(rows.data<int64_t>() + b * rows.dim(1) + begin, n, part.data<int64_t>() + b * n);
  return part;
}

BlockRecurrentTransformer model_of(const GoldenCase& c, Device device) {
  Generator g;
  BlockRecurrentTransformer model(c.model, g);
  const std::string file = c.path + "/weights.safetensors";
  load_tensors(c.weights, named_tensors(model), true, file);
  for (const NamedTensor& t : named_tensors(model)) {
    if (t.is_parameter) continue;
    const std::vector<float> buffer = t.tensor.to_vector<float>();
    const bool zero = std::all_of(buffer.begin(), buffer.end(), [](float v) { return v == 0; });
    check(zero, file, ": ", t.name, " is not zero, which it always is in the reference");
  }
  model.to(device);
  return model;
}

void run_segments(const GoldenCase& c, const BlockRecurrentTransformer& model, NamedResults& out) {
  const Tensor tokens = input(c, "tokens", 2);
  const int64_t n = c.model.max_seq_len;
  Carried carried, first;
  for (int64_t s = 0; s < c.segments; ++s) {
    const std::string place = "." + std::to_string(s);
    const auto result = model(columns(c, tokens, s * n, n), carried);
    carried = result.carried;
    if (s == 0) first = carried;
    out["logits" + place] = result.logits;
    for (size_t i = 0; i < carried.memories.size(); ++i)
      out["xl_memories" + place + "." + std::to_string(i)] = to_xl_memory(carried.memories[i]);
    for (size_t i = 0; i < carried.states.size(); ++i)
      out["states" + place + "." + std::to_string(i)] = carried.states[i];
  }
  if (!c.partial) return;
  out["partial.logits"] = model(columns(c, tokens, 0, c.partial)).logits;
  out["partial.carried_logits"] = model(columns(c, tokens, n, c.partial), first).logits;
}

// The smallest gap between the best and the second logit at positions `from` and later of tokens [B, T].
float min_margin(const GoldenCase& c, const BlockRecurrentTransformer& model, const Tensor& tokens, int64_t from) {
  float margin = std::numeric_limits<float>::infinity();
  Carried carried;
  for (int64_t begin = 0; begin < tokens.dim(1); begin += c.model.max_seq_len) {
    const int64_t n = std::min(c.model.max_seq_len, tokens.dim(1) - begin);
    const auto result = model(columns(c, tokens, begin, n), carried);
    carried = result.carried;
    const int64_t width = c.model.num_tokens;
    const Tensor host = to(result.logits, Device::cpu);
    for (int64_t row = 0; row < tokens.dim(0) * n; ++row) {
      if (begin + row % n < from) continue;
      std::vector<float> logits(host.data<float>() + row * width, host.data<float>() + (row + 1) * width);
      std::partial_sort(logits.begin(), logits.begin() + 2, logits.end(), std::greater<float>());
      margin = std::min(margin, logits[0] - logits[1]);
    }
  }
  return margin;
}

void run_greedy(const GoldenCase& c, const BlockRecurrentTransformer& model, NamedResults& out) {
  const Tensor prime = input(c, "generate.prime", 2), wanted = input(c, "generate.greedy", 2);
  check(wanted.dim(0) == prime.dim(0) && wanted.dim(1) >= 1, c.path, ": generate.greedy has shape ", wanted.shape(),
        ", but generate.prime of shape ", prime.shape(), " asks for as many rows, of one token or more");
  SamplingOptions greedy;
  greedy.temperature = 0;
  Generator g;
  const Tensor made = generate(model, prime, wanted.dim(1), greedy, g);
  out["generate.greedy"] = made;
  // The last token was made, but never read.
  const int64_t batch = prime.dim(0), n = prime.dim(1), total = n + made.dim(1) - 1;
  Tensor read({batch, total}, DType::i64);
  for (int64_t b = 0; b < batch; ++b) {
    int64_t* row = read.data<int64_t>() + b * total;
    std::copy_n(prime.data<int64_t>() + b * n, n, row);
    std::copy_n(made.data<int64_t>() + b * made.dim(1), total - n, row + n);
  }
  out["generate.min_margin"] = tensor<float>({min_margin(c, model, read, n - 1)}, {1});
}

void run_gradients(const GoldenCase& c, const BlockRecurrentTransformer& model, NamedResults& out) {
  auto [tokens, labels] = inputs_and_labels(input(c, "tokens", 2));
  if (c.expected.contains("labels")) labels = input(c, "labels", 2);
  for (const NamedTensor& p : parameters(model)) parameter(p.tensor);
  Gradients grads;
  Generator g;
  const double loss = RecurrentTrainer{.model = model}(tokens, labels, {}, g, grads).loss();
  out["loss"] = tensor<float>({float(loss)}, {1});
  for (const NamedTensor& p : parameters(model)) {
    const Tensor found = grads.find(p.tensor);
    out["grad." + p.name] = found ? found : zeros_like(p.tensor);
  }
}

void run_training(const GoldenCase& c, const BlockRecurrentTransformer& model, NamedResults& out) {
  const Tensor batches = input(c, "train.tokens", 3);
  check(batches.dim(0) == c.train_steps, c.path, ": train.tokens has ", batches.dim(0),
        " batches, but config.json says ", c.train_steps, " steps");
  Adam adam(parameters(model), c.optimizer);
  const RecurrentTrainer trainer{.model = model};
  Gradients grads;
  Generator g;
  std::vector<float> losses, norms;
  const int64_t size = batches.dim(1) * batches.dim(2);
  for (int64_t i = 0; i < c.train_steps; ++i) {
    Tensor batch({batches.dim(1), batches.dim(2)}, DType::i64);
    std::copy_n(batches.data<int64_t>() + i * size, size, batch.data<int64_t>());
    const auto [tokens, labels] = inputs_and_labels(batch);
    losses.push_back(float(trainer(tokens, labels, {}, g, grads).loss()));
    norms.push_back(float(adam.step(grads).item()));
    grads.clear();
  }
  out["train.losses"] = tensor<float>(losses, {c.train_steps});
  out["train.grad_norms"] = tensor<float>(norms, {c.train_steps});
}

}  // namespace

NamedResults compute_golden_case(const GoldenCase& c, Device device) {
  NamedResults out;
  const BlockRecurrentTransformer model = model_of(c, device);
  run_segments(c, model, out);
  if (c.expected.contains("generate.prime")) run_greedy(c, model, out);
  run_gradients(c, model, out);
  if (c.train_steps) run_training(c, model, out);
  for (const char* name : {"tokens", "labels", "generate.prime", "train.tokens"})
    if (c.expected.contains(name)) out[name] = c.expected.at(name);
  return out;
}

}  // namespace rondo
