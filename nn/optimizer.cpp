// Optimizers over a list of named parameters; the arithmetic is in the kernels clip_factor, adam_step and sgd_step.
#include "nn/optimizer.h"

#include <limits>
#include <set>
#include <string_view>

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

void check_at_least_0(const char* optimizer, const char* name, double value, double most = 1e30) {
  check(value >= 0, optimizer, ": ", name, " is ", value, ", but must be at least 0");
  check(value <= most, optimizer, ": ", name, " is ", value, ", but must be at most ", most);  // else f32 has no such
}
void check_share(const char* optimizer, const char* name, double value) {
  check(value >= 0 && value < 1, optimizer, ": ", name, " is ", value, ", but must be in [0, 1)");
}

// Before anything is done to the parameters.
const OptimizerConfig& checked(const OptimizerConfig& c) {
  check_share("Adam", "beta1", c.beta1);
  check_share("Adam", "beta2", c.beta2);
  // Where a gradient was always 0 the root is too, and 0 / 0 would be a weight that is no number.
  check(c.eps >= kSmallestEps, "Adam: eps is ", c.eps, ", but must be at least ", kSmallestEps);
  check_at_least_0("Adam", "weight_decay", c.weight_decay);
  return c;
}
const SGDConfig& checked(const SGDConfig& c) {
  check_share("SGD", "momentum", c.momentum);
  check_at_least_0("SGD", "weight_decay", c.weight_decay);
  check(!c.nesterov || c.momentum > 0, "SGD: nesterov asks for a momentum above 0");
  return c;
}

void check_parameters(const char* optimizer, const std::vector<NamedTensor>& parameters) {
  check(!parameters.empty(), optimizer, ": there are no parameters");
  check_distinct(optimizer, parameters);
  std::set<std::string_view> names;
  const NamedTensor& first = parameters[0];
  for (const NamedTensor& p : parameters) {
    check(p.is_parameter, optimizer, ": ", p.name,
          " is a tensor that is not trained; parameters(model) has those that are");
    check(p.tensor.dtype() == DType::f32 || p.tensor.dtype() == DType::f64, optimizer, ": parameter ", p.name, " is ",
          p.tensor.dtype(), ", but f32 or f64 is needed");
    check(p.tensor.dtype() == first.tensor.dtype(), optimizer, ": parameter ", p.name, " is ", p.tensor.dtype(),
          ", but ", first.name, " is ", first.tensor.dtype());
    check(p.tensor.device() == first.tensor.device(), optimizer, ": parameter ", p.name, " is on ", p.tensor.device(),
          ", but ", first.name, " is on ", first.tensor.device());
    check(names.insert(p.name).second, optimizer, ": two parameters have the name ", p.name);
  }
}

std::vector<Tensor> zeros_beside(const std::vector<NamedTensor>& parameters) {
  std::vector<Tensor> all;
  for (const NamedTensor& p : parameters) all.push_back(zeros_like(p.tensor));
  return all;
}

}  // namespace

Optimizer::Optimizer(const char* name, std::vector<NamedTensor> parameters, double learning_rate, double clip_grad_norm)
    : name_(name), parameters_(std::move(parameters)), rate_(learning_rate), clip_grad_norm_(clip_grad_norm) {
  check_at_least_0(name, "learning_rate", rate_);
  check_at_least_0(name, "clip_grad_norm", clip_grad_norm_, std::numeric_limits<double>::infinity());
  check_parameters(name, parameters_);
  for (const NamedTensor& p : parameters_) parameter(p.tensor);
  const DType dtype = parameters_[0].tensor.dtype();
  const Device device = parameters_[0].tensor.device();
  learning_rate_ = full({}, rate_, dtype, device);
  norm_ = zeros({}, dtype, device);
  factor_ = zeros({}, dtype, device);
}

void Optimizer::set_learning_rate(double rate) {
  check_at_least_0(name_, "learning_rate", rate);
  rate_ = rate;
  dispatch(learning_rate_.device(), [&](auto device) { fill(device, rate, learning_rate_); });
}

template <class F>
void Optimizer::clip(const Gradients& grads, F&& f) {
  check(!Tape::any_recorded(), name_, ": a tape with recorded ops is alive; play it (backward) before the step");
  check(!WeightCopies::in_use(), name_, ": WeightCopies are in use, which the step would make wrong");
  thread_local std::vector<Tensor> reached;  // kept, so that a warm step allocates nothing
  reached.clear();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& w = parameters_[i].tensor;
    const Tensor g = grads.find(w);
    if (!g) continue;
    check(g.shape() == w.shape() && g.dtype() == w.dtype(), name_, ": parameter ", parameters_[i].name, " is ",
          w.dtype(), " ", w.shape(), ", but its gradient is ", g.dtype(), " ", g.shape());
    reached.push_back(g);
    f(i, g);
  }
  const double max_norm = clip_grad_norm_ > 0 ? clip_grad_norm_ : std::numeric_limits<double>::infinity();
  dispatch(norm_.device(), [&](auto device) { clip_factor(device, reached, max_norm, norm_, factor_); });
  reached.clear();  // the gradients belong to the caller
}

Adam::Adam(std::vector<NamedTensor> parameters, OptimizerConfig config)
    : Optimizer("Adam", std::move(parameters), checked(config).learning_rate, config.clip_grad_norm), config_(config) {
  m_ = zeros_beside(parameters_), v_ = zeros_beside(parameters_);
  for (const NamedTensor& p : parameters_) decay_.push_back(decays(p, config_) ? config_.weight_decay : 0);
  steps_ = zeros({int64_t(parameters_.size())}, DType::i64, norm_.device());
}

Tensor Adam::step(const Gradients& grads) {
  thread_local std::vector<AdamSlot> slots;
  slots.clear();
  clip(grads, [&](size_t i, const Tensor& g) {
    slots.push_back({parameters_[i].tensor, g, m_[i], v_[i], int64_t(i), decay_[i]});
  });
  const AdamOptions options{config_.beta1, config_.beta2, config_.eps};
  dispatch(norm_.device(), [&](auto device) { adam_step(device, slots, options, learning_rate_, factor_, steps_); });
  slots.clear();
  return norm_;
}

SGD::SGD(std::vector<NamedTensor> parameters, SGDConfig config)
    : Optimizer("SGD", std::move(parameters), checked(config).learning_rate, config.clip_grad_norm), config_(config) {
  if (config_.momentum > 0) v_ = zeros_beside(parameters_);
}

Tensor SGD::step(const Gradients& grads) {
  thread_local std::vector<SGDSlot> slots;
  slots.clear();
  clip(grads, [&](size_t i, const Tensor& g) {
    slots.push_back({parameters_[i].tensor, g, v_.empty() ? Tensor() : v_[i]});
  });
  const SGDOptions options{config_.momentum, config_.weight_decay, config_.nesterov};
  dispatch(norm_.device(), [&](auto device) { sgd_step(device, slots, options, learning_rate_, factor_); });
  slots.clear();
  return norm_;
}

}  // namespace rondo
