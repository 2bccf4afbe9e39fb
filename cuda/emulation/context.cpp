#include "cuda/context.h"

namespace rondo::cuda {

CUstream_st* stream() { return nullptr; }
std::string why_unusable() { return ""; }
std::string describe() { return "emulated on the host"; }

}  // namespace rondo::cuda
