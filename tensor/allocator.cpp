#include "tensor/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "tensor/check.h"

#if defined(__SANITIZE_ADDRESS__)
#define RONDO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RONDO_ASAN 1
#endif
#endif

namespace rondo {
namespace {

std::atomic<bool> poison = false;

// Sizes are rounded up to one of eight steps per power of two: at most an eighth is wasted, and a block fits every
// tensor of its class.
struct SizeClass {
  int index;
  size_t bytes;
};
SizeClass class_of(size_t bytes) {
  if (bytes <= 512) {
    const int i = int((bytes + 63) / 64);
    return {i, size_t(i) * 64};
  }
  const int log = std::bit_width(bytes - 1) - 1;  // 2^log < bytes <= 2^(log+1)
  const size_t step = size_t{1} << (log - 3);
  const size_t eighth = (bytes - 1) / step + 1 - 8;  // 1..8
  return {8 + (log - 9) * 8 + int(eighth), (8 + eighth) * step};
}

class Cache {
 public:
  void* allocate(size_t bytes) {
    const SizeClass c = class_of(bytes);
    std::lock_guard lock(mutex_);
    stats_.current_bytes += int64_t(c.bytes);
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.current_bytes);
    std::vector<void*>& free = free_[c.index];
    if (!free.empty()) {
      void* p = free.back();
      free.pop_back();
      stats_.cached_bytes -= int64_t(c.bytes);
      return p;
    }
    return request(c.bytes);
  }

  void deallocate(void* p, size_t bytes) {
    const SizeClass c = class_of(bytes);
    std::lock_guard lock(mutex_);
    stats_.current_bytes -= int64_t(c.bytes);
#ifdef RONDO_ASAN
    std::free(p);  // every use after free is seen
#else
    stats_.cached_bytes += int64_t(c.bytes);
    free_[c.index].push_back(p);
#endif
  }

  void release_cached() {
    std::lock_guard lock(mutex_);
    for (std::vector<void*>& free : free_) {
      for (void* p : free) std::free(p);
      free.clear();
    }
    stats_.cached_bytes = 0;
  }

  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    stats_.peak_bytes = stats_.current_bytes;
  }

 private:
  void* request(size_t bytes) {
    ++stats_.system_requests;
    constexpr size_t kHuge = size_t{2} << 20;
    const bool huge = bytes >= 2 * kHuge;
    void* p = std::aligned_alloc(huge ? kHuge : 64, huge ? (bytes + kHuge - 1) / kHuge * kHuge : bytes);
    if (!p) {
      stats_.current_bytes -= int64_t(bytes);
      fail("out of memory on cpu: asked for ", bytes, " bytes, ", stats_.current_bytes, " in use, ",
           stats_.cached_bytes, " cached");
    }
    if (huge) madvise(p, bytes, MADV_HUGEPAGE);
    return p;
  }

  std::mutex mutex_;
  std::vector<void*> free_[512];
  MemoryStats stats_ = {};
};

Cache& cpu_cache() {
  static Cache* cache = new Cache;  // never destroyed: tensors may outlive every static
  return *cache;
}

}  // namespace

void* allocate(Device, size_t bytes) {
  if (bytes == 0) return nullptr;
  check(bytes < size_t{1} << 48, "out of memory: a tensor of ", bytes, " bytes was asked for");
  void* p = cpu_cache().allocate(bytes);
  if (poison) std::memset(p, 0xFF, bytes);
  return p;
}
void deallocate(Device, void* memory, size_t bytes) {
  if (memory) cpu_cache().deallocate(memory, bytes);
}

MemoryStats memory_stats(Device) { return cpu_cache().stats(); }
void reset_peak_memory(Device) { cpu_cache().reset_peak(); }
void release_cached_memory(Device) { cpu_cache().release_cached(); }
void poison_new_memory(bool on) { poison = on; }
bool memory_is_poisoned() { return poison; }

}  // namespace rondo
