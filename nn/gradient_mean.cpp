#include "nn/gradient_mean.h"

#include <algorithm>

namespace rondo {

void GradientMean::ready(const Tensor& parameter) {
  added_.push_back(parameter.id());
  if (const Tensor gradient = grads_.own(parameter)) add(gradient);
}

void GradientMean::finish(const std::vector<NamedTensor>& parameters, const Tensor& also) {
  std::sort(added_.begin(), added_.end());
  std::vector<Tensor> rest;  // those that only segments before the last one used
  for (const NamedTensor& p : parameters)
    if (!std::binary_search(added_.begin(), added_.end(), p.tensor.id())) rest.push_back(p.tensor);
  for (const Tensor& p : rest) ready(p);
  add(also);
  flush();
  ranks_.wait();
}

void GradientMean::add(const Tensor& tensor) {
  bucket_.push_back(tensor);
  bytes_ += tensor.n_bytes();
  if (bytes_ >= bucket_bytes_) flush();
}

void GradientMean::flush() {
  if (!bucket_.empty()) ranks_.begin_mean(bucket_);
  bucket_.clear();
  bytes_ = 0;
}

}  // namespace rondo
