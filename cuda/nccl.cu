#include "cuda/nccl.h"

#include <dlfcn.h>
#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

#include "tensor/check.h"

namespace rondo::cuda {
namespace {

#ifdef NCCL_MAJOR  // where its header is, the two are compared
static_assert(sizeof(NcclId) == sizeof(ncclUniqueId) && int(NcclType::i64) == ncclInt64 &&
              int(NcclType::f32) == ncclFloat32 && int(NcclType::f64) == ncclFloat64 &&
              int(NcclType::bf16) == ncclBfloat16 && int(NcclOp::sum) == ncclSum && int(NcclOp::mean) == ncclAvg);
#endif

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  check(function, "CUDA: NCCL has no function ", name, "; install NCCL 2.14 or later");
}

Nccl open() {
  void* const library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  check(library, "CUDA: several GPUs need NCCL 2, which could not be opened (", library ? "" : dlerror(),
        "); install it, or name its folder in LD_LIBRARY_PATH, or train in one process");
  Nccl n;
  find(library, "ncclGetUniqueId", n.new_id);
  find(library, "ncclCommInitRank", n.open);
  find(library, "ncclCommDestroy", n.close);
  find(library, "ncclCommAbort", n.abort);
  find(library, "ncclGroupStart", n.group_start);
  find(library, "ncclGroupEnd", n.group_end);
  find(library, "ncclAllReduce", n.all_reduce);
  find(library, "ncclGetErrorString", n.error_string);
  find(library, "ncclGetLastError", n.last_error);
  return n;
}

}  // namespace

const Nccl& nccl() {
  static const Nccl opened = open();
  return opened;
}

}  // namespace rondo::cuda
