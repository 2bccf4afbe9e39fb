// The form of a weight that a device multiplies with: on a GPU rounded to bf16 where activations are bf16, and padded.
#pragma once
#include <vector>

#include "ops.h"

namespace rondo {

struct WeightCopy;

// Rounded and padded copies of weights, kept from step to step. They hold the weights they are of.
class WeightCopies {
 public:
  WeightCopies();
  ~WeightCopies();
  WeightCopies(const WeightCopies&) = delete;
  WeightCopies& operator=(const WeightCopies&) = delete;

  // While one is alive on a thread, each copy is made once. Those that earlier uses left are made again as it begins,
  // by one kernel. One inside another adds nothing, and ends before it. Nobody may change weights meanwhile: Adam and
  // load_tensors refuse to.
  class Use {
   public:
    explicit Use(WeightCopies& copies);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    WeightCopies* before_;
  };
  static bool in_use();  // on this thread

 private:
  friend Tensor weight_for_product(const Tensor& x, const Tensor& weight, const Padding& padding);
  void refresh();
  Tensor of(const Tensor& weight, const Shape& shape, DType dtype, int64_t groups);
  std::vector<WeightCopy> copies_;
};

// The weight as x is multiplied with it; the weight itself where it needs no copy. (A CPU rounds what it reads.)
Tensor weight_for_product(const Tensor& x, const Tensor& weight, const Padding& padding);

}  // namespace rondo
