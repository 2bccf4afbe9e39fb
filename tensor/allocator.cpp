#include "tensor/allocator.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <vector>

#include "tensor/check.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

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

// Blocks are not kept where every use after free is to be seen.
#ifdef RONDO_ASAN
constexpr bool kKeepsOnHost = false;
#else
constexpr bool kKeepsOnHost = true;
#endif
constexpr bool keeps_blocks(Device device) { return device == Device::cpu ? kKeepsOnHost : !kCudaIsEmulated; }

class Cache {
 public:
  explicit Cache(Device device) : device_(device) {}

  void* allocate(size_t bytes) {
    const size_t size = block_size(bytes);
    std::lock_guard lock(mutex_);
    void* p = nullptr;
    if (std::vector<void*>& free = free_[class_of(bytes).index]; !free.empty()) {
      p = free.back();
      free.pop_back();
      stats_.cached_bytes -= int64_t(size);
    } else {
      p = request(size);
    }
    stats_.current_bytes += int64_t(size);
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.current_bytes);
    return p;
  }

  void deallocate(void* p, size_t bytes) {
    const size_t size = block_size(bytes);
    std::lock_guard lock(mutex_);
    stats_.current_bytes -= int64_t(size);
    if (!keeps_blocks(device_)) return give_back(p);
    stats_.cached_bytes += int64_t(size);
    free_[class_of(bytes).index].push_back(p);
  }

  void release_cached() {
    std::lock_guard lock(mutex_);
    release();
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
  // Where accesses out of bounds are to be seen, a block ends where its tensor does.
  size_t block_size(size_t bytes) const {
    return device_ == Device::cuda && kCudaIsEmulated ? bytes : class_of(bytes).bytes;
  }

  void* ask(size_t bytes) {
    return dispatch(device_, [&](auto device) { return request_memory(device, bytes); });
  }
  void give_back(void* p) {
    dispatch(device_, [&](auto device) { return_memory(device, p); });
  }

  void release() {
    for (std::vector<void*>& free : free_) {
      for (void* p : free) give_back(p);
      free.clear();
    }
    stats_.cached_bytes = 0;
  }

  void* request(size_t bytes) {
    ++stats_.system_requests;
    void* p = ask(bytes);
    if (!p && stats_.cached_bytes > 0) {  // the free blocks may be what is missing
      release();
      p = ask(bytes);
    }
    if (!p)
      fail("out of memory on ", device_, ": ", bytes, " bytes were asked for; ", stats_.current_bytes, " are in use, ",
           dispatch(device_, [](auto device) { return free_memory(device); }), " are free");
    return p;
  }

  const Device device_;
  std::mutex mutex_;
  std::vector<void*> free_[512];
  MemoryStats stats_ = {};
};

Cache& cache(Device device) {
  // Never destroyed: tensors may outlive every static.
  static Cache* const host = new Cache(Device::cpu);
  static Cache* const cuda = new Cache(Device::cuda);
  return device == Device::cpu ? *host : *cuda;
}

}  // namespace

void* allocate(Device device, size_t bytes) {
  if (bytes == 0) return nullptr;
  check(bytes < size_t{1} << 48, "out of memory: a tensor of ", bytes, " bytes was asked for");
  void* p = cache(device).allocate(bytes);
  if (poison) dispatch(device, [&](auto d) { fill_bytes(d, 0xFF, p, bytes); });
  return p;
}
void deallocate(Device device, void* memory, size_t bytes) {
  if (memory) cache(device).deallocate(memory, bytes);
}

MemoryStats memory_stats(Device device) { return cache(device).stats(); }
void reset_peak_memory(Device device) { cache(device).reset_peak(); }
void release_cached_memory(Device device) { cache(device).release_cached(); }
void poison_new_memory(bool on) { poison = on; }
bool memory_is_poisoned() { return poison; }

}  // namespace rondo
