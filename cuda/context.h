// The one device and stream that all work goes through, in order.
#pragma once
#include <cstdint>
#include <string>

struct CUstream_st;

namespace rondo::cuda {

// Opens the device at its first use. Throws Error with one line when there is none, or its driver is too old.
CUstream_st* stream();

// Whether the device reads the host's memory where it lies (as Grace Hopper does): then a copy that is not waited for
// may still be reading.
bool reads_host_memory();

// Which of the machine's GPUs that is, from 0; before its first use. Throws Error where there is no such GPU.
void choose_gpu(int index);

// Of a grid. Kernels stride over what is left, and do so in tests, which make this small.
inline int64_t most_blocks = 1 << 20;

// Why the device cannot be opened; empty where it can.
std::string why_unusable();
// The toolkit, what the kernels were compiled for, and the GPU or what is missing.
std::string describe();

}  // namespace rondo::cuda
