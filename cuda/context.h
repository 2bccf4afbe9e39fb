// The one device and stream that all work goes through, in order.
#pragma once
#include <string>

struct CUstream_st;

namespace rondo::cuda {

// Opens the device at its first use. Throws Error with one line when there is none, or its driver is too old.
CUstream_st* stream();

// Why the device cannot be opened; empty where it can.
std::string why_unusable();
// The toolkit, what the kernels were compiled for, and the GPU or what is missing.
std::string describe();

}  // namespace rondo::cuda
