#include "cuda/nccl.h"

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

#include "cuda/library.h"

namespace rondo::cuda {
namespace {

#ifdef NCCL_MAJOR  // where its header is, the two are compared
static_assert(sizeof(NcclId) == sizeof(ncclUniqueId) && int(NcclType::i64) == ncclInt64 &&
              int(NcclType::f32) == ncclFloat32 && int(NcclType::f64) == ncclFloat64 &&
              int(NcclType::bf16) == ncclBfloat16 && int(NcclOp::sum) == ncclSum && int(NcclOp::mean) == ncclAvg);
#endif

Nccl open() {
  const Library library({"libnccl.so.2"}, "several GPUs", "NCCL 2.14 or later", "train in one process");
  Nccl n;
  library.find("ncclGetUniqueId", n.new_id);
  library.find("ncclCommInitRank", n.open);
  library.find("ncclCommDestroy", n.close);
  library.find("ncclCommAbort", n.abort);
  library.find("ncclGroupStart", n.group_start);
  library.find("ncclGroupEnd", n.group_end);
  library.find("ncclAllReduce", n.all_reduce);
  library.find("ncclGetErrorString", n.error_string);
  library.find("ncclGetLastError", n.last_error);
  return n;
}

}  // namespace

const Nccl& nccl() {
  static const Nccl opened = open();
  return opened;
}

}  // namespace rondo::cuda
