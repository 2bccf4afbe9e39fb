// Memory for tensors: 64-byte aligned blocks, kept and used again, so that a warm training step allocates nothing.
#pragma once
#include <cstddef>
#include <cstdint>

#include "device.h"

namespace rondo {

struct MemoryStats {
  int64_t current_bytes;    // in tensors now
  int64_t peak_bytes;       // most at any moment since the last reset_peak_memory()
  int64_t cached_bytes;     // free, kept for the next tensor
  int64_t system_requests;  // how often the operating system was asked
};
MemoryStats memory_stats(Device device = Device::cpu);
void reset_peak_memory(Device device = Device::cpu);
// Gives cached blocks back to the system.
void release_cached_memory(Device device = Device::cpu);

// Fill every new block with 0xFF bytes (NaN), so that tests see reads of memory nobody wrote. Off by default.
void poison_new_memory(bool on);
bool memory_is_poisoned();

// The library's own way in: `bytes` of uninitialised memory, and back to the cache it came from. allocate(0) is a null
// pointer.
class MemoryCache;
struct Memory {
  void* data = nullptr;
  size_t bytes = 0;
  MemoryCache* cache = nullptr;
};
Memory allocate(Device device, size_t bytes);
void deallocate(const Memory& memory);

// Blocks that stay where they are, whoever uses them in turn, until the pool is gone and so are its tensors: for work
// that is written down and done again (tensor/graph.h), or that shares no memory with other threads' work. All of them
// count as in use, and stay when cached memory is released.
class MemoryPool {
 public:
  explicit MemoryPool(Device device);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;
  Device device() const;

  // While one lives, this thread's tensors on the pool's device come out of the pool.
  class Use {
   public:
    explicit Use(const MemoryPool& pool);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    MemoryCache* before_;
  };

 private:
  MemoryCache* cache_;
};

}  // namespace rondo
