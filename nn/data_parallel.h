// The gradients of a batch made in parts, all at once. Where a model is small its ops are too, and threads that share
// one op wait for each other; here each thread takes parts of the batch through a whole forward and backward pass, on
// tapes of its own, and the gradients are added up.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "../autograd/tape.h"
#include "../tensor/allocator.h"
#include "module.h"

namespace rondo {

class DataParallel {
 public:
  // Of these parameters, each listed once; a gradient of any other is left out. They must be on the CPU when run.
  explicit DataParallel(std::vector<NamedTensor> parameters);

  // loss(first, rows) is the mean loss, one number, of so many rows of the batch from the first on. It is called for n
  // parts of about as many rows each, 1 <= n <= batch, by several threads at once: what it changes must belong to its
  // part (dropout asks for a Generator for each). Adds to `grads` the gradients of the mean loss over the batch, as one
  // tape would but for the order of sums, and returns that loss. Each row must weigh the same in the loss: where labels
  // are ignored, each row must have as many that count.
  // A part runs on one thread; the ops of a single part use all. The bits depend on n, not on the number of threads.
  // What loss throws is thrown, and grads is then as it was.
  double backward(int64_t batch, int64_t n, const std::function<Tensor(int64_t first, int64_t rows)>& loss,
                  Gradients& grads);

  // What that is made of: part(i, into) for all i in 0..n-1 at once, each of which adds gradients to its own `into`;
  // then their sums are added to `grads`.
  void run(int64_t n, const std::function<void(int64_t i, Gradients& into)>& part, Gradients& grads);

 private:
  struct Part {
    MemoryPool pool{Device::cpu};  // what a thread frees it takes again, not another one from far away
    Gradients grads;
    double loss = 0;
  };
  std::vector<NamedTensor> parameters_;
  std::vector<std::unique_ptr<Part>> parts_;  // kept from step to step, with their gradients
};

}  // namespace rondo
