// Sums over the GPUs of several processes, for tensor/communicator.h.
#pragma once
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace rondo::cuda {

// What a group is called, in one word: rank 0 makes one, and tells the others.
std::string new_group();
// Waits until all `size` processes have joined. Throws Error where they cannot work together.
void* join_group(const std::string& name, int rank, int size);
// Waits for what was begun; nothing may be begun afterwards.
void finish_group(void* group);
// Leaves it. Graphs that hold sums of it must be gone: NCCL waits for that. Without finish_group before, what was begun
// is broken off: the others may never come to it.
void drop_group(void* group);

// Each tensor becomes its sum, or mean, over all processes, in place and to the same bits in each. It begins when what
// the device was asked for so far is done, and goes on beside what it is asked for later.
void begin_all_reduce(void* group, std::span<const Tensor> tensors, bool mean);
// What the device is asked for from here on waits for all that was begun.
void end_all_reduce(void* group);

}  // namespace rondo::cuda
