#include "cuda/context.h"

namespace rondo::cuda {

CUstream_st* stream() { return nullptr; }
bool reads_host_memory() { return false; }
void choose_gpu(int) {}  // there is one for each
std::string why_unusable() { return ""; }
std::string describe() { return "emulated on the host"; }

}  // namespace rondo::cuda
