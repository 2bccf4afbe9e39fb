// Data parallel: the gradients of several ranks become their mean, in buckets, while the backward pass goes on.
#pragma once
#include <vector>

#include "autograd/tape.h"
#include "nn/module.h"
#include "tensor/communicator.h"

namespace rondo {

// For one backward pass, as Tape's `ready`: a gradient that is whole waits until its bucket is full, then all in it
// become their mean over the ranks, beside the rules that are still played. One operation for many tensors, since each
// costs some microseconds; PyTorch's DistributedDataParallel does so too (Li et al. 2020, section 3.2), with as large
// buckets.
class GradientMean {
 public:
  static constexpr size_t kBucketBytes = 25 << 20;

  GradientMean(Communicator& ranks, Gradients& grads, size_t bucket_bytes = kBucketBytes)
      : ranks_(ranks), grads_(grads), bucket_bytes_(bucket_bytes) {}

  // The parameter's gradient will not change any more.
  void ready(const Tensor& parameter);
  // No gradient will change any more: averages those that remain, and `also`. On return all are means over the ranks.
  void finish(const std::vector<NamedTensor>& parameters, const Tensor& also);

 private:
  void add(const Tensor& tensor);
  void flush();

  Communicator& ranks_;
  Gradients& grads_;
  size_t bucket_bytes_, bytes_ = 0;
  std::vector<Tensor> bucket_;
  std::vector<uint64_t> added_;  // whose gradients were, by identity
};

}  // namespace rondo
