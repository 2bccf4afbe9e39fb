// The one device and stream that all work goes through, in order.
#pragma once

struct CUstream_st;

namespace rondo::cuda {

// Opens the device at its first use. Throws Error with one line when there is none, or its driver is too old.
CUstream_st* stream();

}  // namespace rondo::cuda
