#include "cuda/communicator.h"

#include <memory>

#include "cuda/context.h"
#include "cuda/device.cuh"
#include "cuda/nccl.h"
#include "tensor/check.h"

namespace rondo::cuda {
namespace {

struct Group {
  NcclComm* comm = nullptr;
  cudaStream_t stream = nullptr;  // beside that of all other work
  cudaEvent_t reached = nullptr;
  bool finished = false;
};

void checked_nccl(int status, const char* call) {
  check(status == 0, "NCCL: ", call, ": ", status == 0 ? "" : nccl().error_string(status), " (",
        status == 0 ? "" : nccl().last_error(nullptr), ")");
}

constexpr char kDigits[] = "0123456789abcdef";

NcclType type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return NcclType::f32;
    case DType::f64:
      return NcclType::f64;
    case DType::bf16:
      return NcclType::bf16;
    case DType::i64:
      return NcclType::i64;
    default:
      fail("sums over several GPUs are not made of ", dtype);
  }
}

// What `second` does from here on waits for what `first` has been asked for.
void wait_for(cudaStream_t second, cudaStream_t first, cudaEvent_t event) {
  checked(cudaEventRecord(event, first), "cudaEventRecord");
  checked(cudaStreamWaitEvent(second, event, 0), "cudaStreamWaitEvent");
}

}  // namespace

std::string new_group() {
  NcclId id;
  checked_nccl(nccl().new_id(&id), "ncclGetUniqueId");
  std::string name;
  for (const char byte : id.bytes) name += {kDigits[(byte >> 4) & 15], kDigits[byte & 15]};
  return name;
}

void* join_group(const std::string& name, int rank, int size) {
  NcclId id;
  check(name.size() == 2 * sizeof id.bytes, "NCCL: the name of a group has ", name.size(), " digits, not ",
        2 * sizeof id.bytes);
  const auto digit = [&](size_t i) { return int(std::string_view(kDigits).find(name[i])); };
  for (size_t i = 0; i < sizeof id.bytes; ++i) id.bytes[i] = char(digit(2 * i) << 4 | digit(2 * i + 1));
  stream();  // opens the device
  auto group = std::make_unique<Group>();
  checked_nccl(nccl().open(&group->comm, size, id, rank), "ncclCommInitRank");
  checked(cudaStreamCreateWithFlags(&group->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  checked(cudaEventCreateWithFlags(&group->reached, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return group.release();
}

void finish_group(void* group) {
  Group& g = *static_cast<Group*>(group);
  checked(cudaStreamSynchronize(g.stream), "cudaStreamSynchronize");
  g.finished = true;
}

void drop_group(void* group) {
  const std::unique_ptr<Group> g(static_cast<Group*>(group));
  g->finished ? nccl().close(g->comm) : nccl().abort(g->comm);
  cudaEventDestroy(g->reached);
  cudaStreamDestroy(g->stream);
}

void begin_all_reduce(void* group, std::span<const Tensor> tensors, bool mean) {
  const Group& g = *static_cast<Group*>(group);
  for (const Tensor& t : tensors) type_of(t.dtype());  // nothing is begun where it throws
  wait_for(g.stream, stream(), g.reached);
  checked_nccl(nccl().group_start(), "ncclGroupStart");
  for (const Tensor& t : tensors)
    checked_nccl(nccl().all_reduce(t.bytes(), t.bytes(), size_t(t.numel()), type_of(t.dtype()),
                                   mean ? NcclOp::mean : NcclOp::sum, g.comm, g.stream),
                 "ncclAllReduce");
  checked_nccl(nccl().group_end(), "ncclGroupEnd");
}

void end_all_reduce(void* group) {
  const Group& g = *static_cast<Group*>(group);
  wait_for(stream(), g.stream, g.reached);
}

}  // namespace rondo::cuda
