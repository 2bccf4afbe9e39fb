#include "bench/libtorch/check.h"

#include <cstdio>

#include "apps/parity.h"
#include "bench/libtorch/decode.h"
#include "bench/libtorch/train.h"

namespace libtorch {
namespace {

using rondo::GoldenCase;
using rondo::NamedResults;

Tensor input(const GoldenCase& c, const std::string& name) { return from_rondo(c.expected.at(name)); }

Model model_of(const GoldenCase& c) {
  Model model(c.model);
  std::vector<rondo::NamedTensor> weights;
  for (const auto& [name, tensor] : c.weights.tensors) weights.push_back({name, tensor, true});
  model->load(weights);
  return model;
}

void run_segments(const GoldenCase& c, NamedResults& out) {
  const torch::NoGradGuard no_grad;
  Model model = model_of(c);
  const Tensor tokens = input(c, "tokens");
  const int64_t N = c.model.max_seq_len;
  Carried carried;
  for (int64_t s = 0; s < c.segments; ++s) {
    const std::string place = "." + std::to_string(s);
    ModelImpl::Result result = model(tokens.narrow(1, s * N, N), carried);
    carried = std::move(result.carried);
    out["logits" + place] = to_rondo(result.logits);
    for (size_t i = 0; i < carried.memories.size(); ++i)
      out["xl_memories" + place + "." + std::to_string(i)] =
          to_rondo(torch::stack({carried.memories[i].k, carried.memories[i].v}));
    for (size_t i = 0; i < carried.states.size(); ++i)
      out["states" + place + "." + std::to_string(i)] = to_rondo(carried.states[i]);
  }
}

void run_gradients(const GoldenCase& c, NamedResults& out) {
  Model model = model_of(c);
  const Tensor tokens = input(c, "tokens");
  const int64_t n = tokens.size(1) - 1;
  const Tensor labels = c.expected.contains("labels") ? input(c, "labels") : tokens.narrow(1, 1, n);
  const double loss = accumulate_gradients(model, tokens.narrow(1, 0, n), labels);
  out["loss"] = to_rondo(torch::full({1}, loss));
  for (const auto& p : model->named_parameters())
    out["grad." + p.key()] = to_rondo(p.value().grad().defined() ? p.value().grad() : torch::zeros_like(p.value()));
}

void run_training(const GoldenCase& c, NamedResults& out) {
  Model model = model_of(c);
  const rondo::OptimizerConfig& o = c.optimizer;
  torch::optim::Adam adam(model->parameters(),
                          torch::optim::AdamOptions(o.learning_rate).betas({o.beta1, o.beta2}).eps(o.eps));
  const Tensor tokens = input(c, "train.tokens");
  const int64_t n = tokens.size(2) - 1;
  std::vector<double> losses, norms;
  for (int64_t i = 0; i < c.train_steps; ++i) {
    adam.zero_grad();
    losses.push_back(accumulate_gradients(model, tokens[i].narrow(1, 0, n), tokens[i].narrow(1, 1, n)));
    norms.push_back(torch::nn::utils::clip_grad_norm_(model->parameters(), o.clip_grad_norm));
    adam.step();
  }
  out["train.losses"] = to_rondo(torch::tensor(losses));
  out["train.grad_norms"] = to_rondo(torch::tensor(norms));
}

Tensor continued(Decoder& decoder, Tensor tokens, int64_t length) {
  std::vector<Tensor> made;
  for (int64_t i = 0; i < length; ++i) made.push_back(tokens = decoder.next(tokens).unsqueeze(1));
  return torch::cat(made, 1);
}

void run_decoding(const GoldenCase& c, NamedResults& out) {
  Model model = model_of(c);
  const Tensor prime = input(c, "generate.prime");
  const int64_t length = c.expected.at("generate.greedy").dim(1);
  SegmentDecoder by_segments(model);
  CachedDecoder cached(model, prime.size(0));
  const Tensor made = continued(cached, prime, length);
  rondo::check(made.equal(continued(by_segments, prime, length)), c.path, ": the two ways to decode part");
  out["generate.greedy"] = to_rondo(made);
}

}  // namespace

void check_against_rondo(const std::string& golden_case) {
  GoldenCase c = rondo::read_golden_case(golden_case);
  NamedResults computed;
  run_segments(c, computed);
  run_gradients(c, computed);
  if (c.train_steps > 0) run_training(c, computed);
  run_decoding(c, computed);

  NamedResults rondo = rondo::compute_golden_case(c);
  std::erase_if(rondo, [&](const auto& result) { return !computed.contains(result.first); });
  c.expected = std::move(rondo);
  const rondo::ParityReport report = rondo::compare_golden_case(c, computed);
  std::map<std::string, rondo::Comparison> worst;  // by group: the one nearest to its bound
  for (const rondo::Comparison& t : report.comparisons) {
    rondo::Comparison& w = worst.try_emplace(t.group, t).first->second;
    if (!t.holds() || t.error * w.tolerance > w.error * t.tolerance) w = t;
  }
  for (const auto& [group, t] : worst)
    std::printf("%-18s error %9.2e, at most %9.2e   %s %s\n", group.c_str(), t.error, t.tolerance, t.name.c_str(),
                t.note.c_str());
  rondo::check(report.failed().empty(), golden_case, ": ", report.failed().size(), " of ", report.comparisons.size(),
               " tensors are not what Rondo computes");
}

}  // namespace libtorch
