// Adam, AdamW and SGD with clipping by the global norm, in one pass over the parameters.
#pragma once
#include <string>
#include <vector>

#include "../autograd/tape.h"
#include "module.h"

namespace rondo {

constexpr double kSmallestEps = 1e-30;  // is not 0 in f32 either

struct OptimizerConfig {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // eps: kSmallestEps or more
  double weight_decay = 0;                        // decoupled (AdamW); 0 is Adam
  bool decay_all = false;                         // false: only matrices, without tables and initial states (no_decay)
  double clip_grad_norm = 0;                      // 0: no clipping
  // What contains one of these in its name does not decay, unless all does.
  std::vector<std::string> no_decay = {"token_emb", "init_state", "state_pos_ids"};
};

// What the optimizers below share. As PyTorch's, they leave a parameter alone that no gradient reached.
class Optimizer {
 public:
  void set_learning_rate(double rate);
  double learning_rate() const { return rate_; }
  const std::vector<NamedTensor>& parameters() const { return parameters_; }

 protected:
  // Marks the parameters, so that tapes keep their gradients.
  Optimizer(const char* name, std::vector<NamedTensor> parameters, double learning_rate, double clip_grad_norm);
  // f(i, gradient) for each parameter that a gradient reached; then norm_ and factor_ are theirs. (In optimizer.cpp,
  // for those below alone.)
  template <class F>
  void clip(const Gradients& grads, F&& f);

  const char* name_;
  std::vector<NamedTensor> parameters_;
  double rate_, clip_grad_norm_;
  Tensor learning_rate_, norm_, factor_;  // one-element tensors: a captured step reads them where they lie
};

// Kingma & Ba 2015; Loshchilov & Hutter 2019 (decoupled decay). Each parameter has a step count of its own.
class Adam : public Optimizer {
 public:
  Adam(std::vector<NamedTensor> parameters, OptimizerConfig config);

  // One step. Throws while a tape with recorded ops is alive or WeightCopies are in use, and where a gradient does not
  // fit its parameter. Returns the global norm of the gradients before clipping: one number on the parameters' device,
  // which the next step overwrites. When it is not finite, nothing is changed, steps included: it is up to the caller
  // to say so or to stop.
  Tensor step(const Gradients& grads);

  // The whole state, to save and to load: "m.NAME", "v.NAME" and "steps" [number of parameters] i64.
  template <class F>
  void each(F&& f) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      f("m." + parameters_[i].name, m_[i], false);
      f("v." + parameters_[i].name, v_[i], false);
    }
    f("steps", steps_, false);
  }

 private:
  OptimizerConfig config_;
  std::vector<Tensor> m_, v_;
  std::vector<double> decay_;
  Tensor steps_;
};

struct SGDConfig {
  double learning_rate = 1e-2;
  double momentum = 0;        // of the velocity that is kept of each parameter; 0 keeps none
  bool nesterov = false;      // looks ahead (Nesterov 1983)
  double weight_decay = 0;    // times the parameter, added to its gradient
  double clip_grad_norm = 0;  // 0: no clipping
};

// Stochastic gradient descent, as PyTorch's: with g = gradient + weight_decay w, v = momentum v + g,
// w -= learning_rate v, or learning_rate (g + momentum v) with nesterov.
class SGD : public Optimizer {
 public:
  SGD(std::vector<NamedTensor> parameters, SGDConfig config = {});
  Tensor step(const Gradients& grads);  // as Adam's

  // The state: "v.NAME", where there is momentum.
  template <class F>
  void each(F&& f) {
    for (size_t i = 0; i < v_.size(); ++i) f("v." + parameters_[i].name, v_[i], false);
  }

 private:
  SGDConfig config_;
  std::vector<Tensor> v_;
};

}  // namespace rondo
