// Parts of a batch on threads of their own, and the sums of their gradients.
#include "nn/data_parallel.h"

#include "tensor/check.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {

DataParallel::DataParallel(std::vector<NamedTensor> parameters) : parameters_(std::move(parameters)) {
  check_distinct("DataParallel", parameters_);
}

double DataParallel::backward(int64_t batch, int64_t n, const std::function<Tensor(int64_t first, int64_t rows)>& loss,
                              Gradients& grads) {
  check(n >= 1 && n <= batch && batch <= INT64_MAX / n, "DataParallel: a batch of ", batch,
        " rows cannot be cut into parts, ", n, " of them");
  const auto part = [&](int64_t i, Gradients& into) {
    const int64_t first = batch * i / n, rows = batch * (i + 1) / n - first;
    const double weight = double(rows) / double(batch);
    Tape tape;
    const Tensor mean = loss(first, rows);
    tape.backward(mean, weight, into);
    parts_[size_t(i)]->loss = weight * mean.item();
  };
  run(n, std::ref(part), grads);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += parts_[size_t(i)]->loss;
  return sum;
}

void DataParallel::run(int64_t n, const std::function<void(int64_t i, Gradients& into)>& part, Gradients& grads) {
  for (const NamedTensor& p : parameters_)
    check(p.tensor.device() == Device::cpu, "DataParallel: ", p.name, " is on ", p.tensor.device(),
          ", but threads share out the work of a CPU; record on one tape there");
  while (int64_t(parts_.size()) < n) parts_.push_back(std::make_unique<Part>());
  parallel_for(n, [&](int64_t i) {
    Part& own = *parts_[size_t(i)];
    const MemoryPool::Use use(own.pool);
    own.grads.clear();  // by the thread that made them, as a rule: their memory is its own
    part(i, own.grads);
  });
  // Into the first part that has one.
  parallel_for(int64_t(parameters_.size()), [&](int64_t p) {
    const Tensor& parameter = parameters_[size_t(p)].tensor;
    Tensor sum;
    for (int64_t i = 0; i < n; ++i) {
      Gradients& from = parts_[size_t(i)]->grads;
      if (!sum)
        sum = from.own(parameter);
      else if (const Tensor more = from.find(parameter))
        add_into(Cpu{}, more, sum);
    }
  });
  for (const NamedTensor& p : parameters_) {
    Tensor sum;
    for (int64_t i = 0; !sum && i < n; ++i) sum = parts_[size_t(i)]->grads.take(p.tensor);
    if (sum) grads.add(p.tensor, std::move(sum));
  }
}

}  // namespace rondo
