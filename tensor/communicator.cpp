#include "tensor/communicator.h"

#include "cuda/communicator.h"
#include "cuda/context.h"
#include "tensor/check.h"
#include "tensor/dispatch.h"

namespace rondo {
namespace {

// The group's name, at rank 0, which makes it; empty at the others, who are told.
std::string group_name(const Ranks& ranks) {
  check_usable(Device::cuda);
  if constexpr (kHasCuda) {
    cuda::choose_gpu(ranks.local);
    if (ranks.rank == 0) return cuda::new_group();
  }
  return {};
}

}  // namespace

Communicator::Communicator(const Ranks& ranks, const std::string& purpose, Peers::Lost lost)
    : rank_(ranks.rank), size_(ranks.size), peers_(ranks, purpose, group_name(ranks), std::move(lost)) {
  if constexpr (kHasCuda) try {
      group_ = {cuda::join_group(peers_.from_first(), rank_, size_), cuda::drop_group};
    } catch (const Error& e) {
      give_up(e.what());
      throw;
    }
}

void Communicator::begin_mean(std::span<const Tensor> tensors) {
  if constexpr (kHasCuda) cuda::begin_all_reduce(group_.get(), tensors, true);
}

void Communicator::wait() {
  if constexpr (kHasCuda) cuda::end_all_reduce(group_.get());
}

void Communicator::sum(const Tensor& tensor) {
  if constexpr (kHasCuda) {
    cuda::begin_all_reduce(group_.get(), {&tensor, 1}, false);
    cuda::end_all_reduce(group_.get());
  }
}

void Communicator::finish() {
  if constexpr (kHasCuda) cuda::finish_group(group_.get());
  peers_.finish();
}

void Communicator::give_up(const std::string& why) { peers_.give_up(why); }

bool Communicator::any(bool here) {
  const Tensor count = full({}, here, DType::f32, Device::cuda);
  sum(count);
  return count.item() > 0;
}

}  // namespace rondo
