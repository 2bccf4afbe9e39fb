// Adam over a list of named parameters; the arithmetic is in the kernels clip_factor and adam_step.
#include "nn/optimizer.h"

#include <limits>
#include <set>
#include <string_view>
#include <unordered_map>

#include "autograd/rounded.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

// Decay pulls matrices towards zero; scales, biases, embeddings and initial states are no matrices.
bool decays(const NamedTensor& p, const OptimizerConfig& c) {
  if (c.decay_all) return true;
  for (const std::string& table : c.no_decay)
    if (p.name.find(table) != std::string::npos) return false;
  return p.tensor.rank() >= 2;
}

void check_config(const OptimizerConfig& c) {
  check(c.learning_rate >= 0, "Adam: learning_rate is ", c.learning_rate, ", but must be at least 0");
  check(c.beta1 >= 0 && c.beta1 < 1, "Adam: beta1 is ", c.beta1, ", but must be in [0, 1)");
  check(c.beta2 >= 0 && c.beta2 < 1, "Adam: beta2 is ", c.beta2, ", but must be in [0, 1)");
  check(c.eps >= 0, "Adam: eps is ", c.eps, ", but must be at least 0");
  check(c.weight_decay >= 0, "Adam: weight_decay is ", c.weight_decay, ", but must be at least 0");
  check(c.clip_grad_norm >= 0, "Adam: clip_grad_norm is ", c.clip_grad_norm, ", but must be at least 0");
}

void check_parameters(const std::vector<NamedTensor>& parameters) {
  check(!parameters.empty(), "Adam: there are no parameters");
  std::unordered_map<uint64_t, const std::string*> tensors;
  std::set<std::string_view> names;
  const NamedTensor& first = parameters[0];
  for (const NamedTensor& p : parameters) {
    check(bool(p.tensor), "Adam: parameter ", p.name, " is empty");
    check(p.tensor.dtype() == DType::f32 || p.tensor.dtype() == DType::f64, "Adam: parameter ", p.name, " is ",
          p.tensor.dtype(), ", but f32 or f64 is needed");
    check(p.tensor.dtype() == first.tensor.dtype(), "Adam: parameter ", p.name, " is ", p.tensor.dtype(), ", but ",
          first.name, " is ", first.tensor.dtype());
    check(p.tensor.device() == first.tensor.device(), "Adam: parameter ", p.name, " is on ", p.tensor.device(),
          ", but ", first.name, " is on ", first.tensor.device());
    const auto [place, is_new] = tensors.emplace(p.tensor.id(), &p.name);
    check(is_new, "Adam: parameters ", *place->second, " and ", p.name,
          " are the same tensor; a layer's each() visits a tensor that is used twice once");
    check(names.insert(p.name).second, "Adam: two parameters have the name ", p.name);
  }
}

}  // namespace

Adam::Adam(std::vector<NamedTensor> parameters, OptimizerConfig config)
    : config_(config), parameters_(std::move(parameters)) {
  check_config(config_);
  check_parameters(parameters_);
  const Device device = parameters_[0].tensor.device();
  const DType dtype = parameters_[0].tensor.dtype();
  for (const NamedTensor& p : parameters_) {
    parameter(p.tensor);
    m_.push_back(zeros_like(p.tensor));
    v_.push_back(zeros_like(p.tensor));
    decay_.push_back(decays(p, config_) ? config_.weight_decay : 0);
  }
  steps_ = zeros({int64_t(parameters_.size())}, DType::i64, device);
  learning_rate_ = full({}, config_.learning_rate, dtype, device);
  norm_ = zeros({}, dtype, device);
  factor_ = zeros({}, dtype, device);
}

Tensor Adam::step(const Gradients& grads) {
  check(!Tape::any_recorded(), "Adam: a tape with recorded ops is alive; play it (backward) before the step");
  check(!WeightCopies::in_use(), "Adam: WeightCopies are in use, which the step would make wrong");
  thread_local std::vector<AdamSlot> slots;  // kept, so that a warm step allocates nothing
  thread_local std::vector<Tensor> reached;
  slots.clear(), reached.clear();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& w = parameters_[i].tensor;
    Tensor g = grads.find(w);
    if (!g) continue;
    check(g.shape() == w.shape() && g.dtype() == w.dtype(), "Adam: parameter ", parameters_[i].name, " is ", w.dtype(),
          " ", w.shape(), ", but its gradient is ", g.dtype(), " ", g.shape());
    reached.push_back(g);
    slots.push_back({w, std::move(g), m_[i], v_[i], int64_t(i), decay_[i]});
  }
  const double max_norm = config_.clip_grad_norm > 0 ? config_.clip_grad_norm : std::numeric_limits<double>::infinity();
  const AdamOptions options{config_.beta1, config_.beta2, config_.eps};
  dispatch(steps_.device(), [&](auto device) {
    clip_factor(device, reached, max_norm, norm_, factor_);
    adam_step(device, slots, options, learning_rate_, factor_, steps_);
  });
  slots.clear(), reached.clear();  // the gradients belong to the caller
  return norm_;
}

void Adam::set_learning_rate(double rate) {
  check(rate >= 0, "Adam: learning_rate is ", rate, ", but must be at least 0");
  config_.learning_rate = rate;
  dispatch(learning_rate_.device(), [&](auto device) { fill(device, rate, learning_rate_); });
}

}  // namespace rondo
