// NCCL, opened when processes begin to work together: a program that works alone runs where it is not installed. These
// functions are all that is used of it. They are declared here as its binary interface has them (NCCL 2.14 and later),
// since a toolkit comes without its header.
#pragma once
#include <cstddef>

struct CUstream_st;

namespace rondo::cuda {

struct NcclComm;
struct NcclId {
  char bytes[128];
};
enum class NcclType : int { i64 = 4, f32 = 7, f64 = 8, bf16 = 9 };
enum class NcclOp : int { sum = 0, mean = 4 };

struct Nccl {
  int (*new_id)(NcclId* id);
  int (*open)(NcclComm** comm, int size, NcclId id, int rank);
  int (*close)(NcclComm* comm);
  int (*abort)(NcclComm* comm);  // also what goes on
  int (*group_start)();
  int (*group_end)();
  int (*all_reduce)(const void* from, void* to, size_t n, NcclType type, NcclOp op, NcclComm* comm,
                    CUstream_st* stream);
  const char* (*error_string)(int status);
  const char* (*last_error)(NcclComm* comm);  // what happened, in words; comm may be null
};

// Throws Error with one line when there is no such library.
const Nccl& nccl();

}  // namespace rondo::cuda
