#include "bench/libtorch/train.h"

#include <ATen/autocast_mode.h>

namespace libtorch {
namespace {

namespace F = torch::nn::functional;

// bf16 by autocast, as PyTorch's users train.
class Autocast {
 public:
  explicit Autocast(bool on) : on_(on) {
    if (on) set(true), at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!on_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    set(false);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  static void set(bool on) { at::autocast::set_autocast_enabled(at::kCPU, on); }
#else
  static void set(bool on) { at::autocast::set_cpu_enabled(on); }
#endif
  bool on_;
};

}  // namespace

double accumulate_gradients(Model& model, const Tensor& tokens, const Tensor& labels, bool autocast) {
  const int64_t N = model->config.max_seq_len, segments = tokens.size(1) / N;
  Carried carried;
  double total = 0;
  for (int64_t s = 0; s < segments; ++s) {
    Tensor loss;
    {
      const Autocast guard(autocast);
      ModelImpl::Result result = model(tokens.narrow(1, s * N, N), carried);
      carried = std::move(result.carried);
      loss = F::cross_entropy(result.logits.flatten(0, 1), labels.narrow(1, s * N, N).flatten(),
                              F::CrossEntropyFuncOptions().ignore_index(model->config.ignore_index)) /
             double(segments);
    }
    loss.backward();
    total += loss.item<double>();
  }
  return total;
}

}  // namespace libtorch
