// What lies below the ops: recording on the tape, the allocator, the thread pool.
#include "autograd/ops.h"
#include "bench/rows.h"
#include "tensor/allocator.h"
#include "tensor/parallel.h"

namespace rondo::bench {
namespace {

constexpr int kOps = 1000;

// A row of `once`, which does kOps equal things.
void add_each(const std::string& name, std::function<double()> once) {
  add_row(name, [=] { return Work{once, {.times = kOps}}; });
}

Tensor chain(const Tensor& x) {
  Tensor y = x;
  for (int i = 0; i < kOps; ++i) y = scale(y, 1);
  return y;
}

}  // namespace

void add_runtime_rows() {
  const Tensor x = parameter(zeros({1}));
  add_each("tape: a small op, not recorded", [=] { return seconds_of([&] { chain(x); }); });
  add_each("tape: a small op, recorded", [=] {
    Tape tape;
    return seconds_of([&] { chain(x); });
  });
  add_each("tape: recording alone", [=] {
    Tape tape;
    Tensors results;
    for (int i = 0; i < kOps; ++i) results.push_back(zeros({1}));
    return seconds_of([&] {
      for (const Tensor& y : results) record("nothing", {x}, y, [x](const Tensor& dy) { return Grads{dy}; });
    });
  });
  add_each("tape: a small op, played back", [=, grads = Gradients()]() mutable {
    Tape tape;
    const Tensor loss = sum(chain(x));
    const double seconds = seconds_of([&] { tape.backward(loss, 1, grads); });
    grads.clear();
    return seconds;
  });
  for (const size_t bytes : {size_t{256}, size_t{1} << 20})
    add_each("allocator: " + std::to_string(bytes) + " bytes, taken and given back", [=] {
      return seconds_of([&] {
        for (int i = 0; i < kOps; ++i) deallocate(allocate(Device::cpu, bytes));
      });
    });
  add_each("allocator: a small tensor, made and dropped", [] {
    return seconds_of([] {
      for (int i = 0; i < kOps; ++i) benchmark::DoNotOptimize(Tensor(Shape{64}));
    });
  });
  add_each("thread pool: a launch on all threads", [] {
    return seconds_of([] {
      for (int i = 0; i < kOps; ++i) parallel_for(num_threads(), [](int64_t tile) { benchmark::DoNotOptimize(tile); });
    });
  });
}

}  // namespace rondo::bench
