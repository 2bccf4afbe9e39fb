#include "tensor/allocator.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <utility>
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

// Under AddressSanitizer blocks go back to the system at once, so that every use after free is seen.
#ifdef RONDO_ASAN
constexpr bool kKeepsOnHost = false;
#else
constexpr bool kKeepsOnHost = true;
#endif
constexpr bool keeps_blocks(Device device) { return device == Device::cpu ? kKeepsOnHost : !kCudaIsEmulated; }
// A block of an emulated device ends where its tensor does, so that accesses out of bounds are seen.
size_t block_size(Device device, size_t bytes) {
  return device == Device::cuda && kCudaIsEmulated ? bytes : class_of(bytes).bytes;
}

}  // namespace

// The free blocks of a device, or of a MemoryPool on it, which counts its bytes in its device's cache.
class MemoryCache {
 public:
  explicit MemoryCache(Device device) : device_(device), device_cache_(*this), keeps_(keeps_blocks(device)) {}
  MemoryCache(Device device, MemoryCache& device_cache) : device_(device), device_cache_(device_cache), keeps_(true) {}

  Device device() const { return device_; }

  void* allocate(size_t bytes) {
    const size_t size = block_size(device_, bytes);
    std::lock_guard lock(mutex_);
    void* p = take(free_[class_of(bytes).index], size);
    if (!p) {
      const auto also = lock_device_cache();
      p = request(size);
      count_in(size);
    } else if (!is_pool()) {
      stats_.cached_bytes -= int64_t(size);
      count_in(size);
    }
    ++in_use_;
    return p;
  }

  void deallocate(void* p, size_t bytes) {
    const size_t size = block_size(device_, bytes);
    std::unique_lock lock(mutex_);
    --in_use_;
    if (!is_pool()) stats_.current_bytes -= int64_t(size);
    if (keeps_) {
      free_[class_of(bytes).index].push_back({p, size});
      if (!is_pool()) stats_.cached_bytes += int64_t(size);
      return;
    }
    {
      const auto also = lock_device_cache();
      give_back({p, size});
    }
    if (!is_pool() || in_use_ > 0) return;
    lock.unlock();
    delete this;  // the last block of a pool that is gone
  }

  // Of a pool: its blocks go as soon as nobody uses them.
  void close() {
    std::unique_lock lock(mutex_);
    {
      const auto also = lock_device_cache();
      release();
    }
    keeps_ = false;
    if (in_use_ > 0) return;
    lock.unlock();
    delete this;
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
  struct Block {
    void* data;
    size_t size;
  };

  bool is_pool() const { return &device_cache_ != this; }
  // Behind a pool's own lock that of its device, for the device's numbers and what its cache holds.
  std::unique_lock<std::mutex> lock_device_cache() {
    return is_pool() ? std::unique_lock(device_cache_.mutex_) : std::unique_lock<std::mutex>();
  }
  void count_in(size_t size) {
    MemoryStats& stats = device_cache_.stats_;
    stats.current_bytes += int64_t(size);
    stats.peak_bytes = std::max(stats.peak_bytes, stats.current_bytes);
  }

  // The last block of that size. (Only under emulation has a class several.)
  void* take(std::vector<Block>& free, size_t size) {
    for (size_t i = free.size(); i-- > 0;) {
      if (free[i].size != size) continue;
      void* const p = free[i].data;
      free.erase(free.begin() + std::ptrdiff_t(i));
      return p;
    }
    return nullptr;
  }

  void* try_request(size_t size) {
    return dispatch(device_, [&](auto device) { return request_memory(device, size); });
  }
  void give_back(Block b) {
    dispatch(device_, [&](auto device) { return_memory(device, b.data); });
    if (is_pool()) device_cache_.stats_.current_bytes -= int64_t(b.size);
  }

  void release() {
    for (std::vector<Block>& free : free_) {
      for (const Block& b : free) give_back(b);
      free.clear();
    }
    if (!is_pool()) stats_.cached_bytes = 0;
  }

  void* request(size_t size) {
    MemoryStats& stats = device_cache_.stats_;
    ++stats.system_requests;
    void* p = try_request(size);
    if (!p && stats.cached_bytes > 0) {  // the free blocks may be what is missing
      device_cache_.release();
      p = try_request(size);
    }
    if (!p)
      fail("out of memory on ", device_, ": ", size, " bytes were asked for; ", stats.current_bytes, " are in use, ",
           dispatch(device_, [](auto device) { return free_memory(device); }), " are free");
    return p;
  }

  const Device device_;
  MemoryCache& device_cache_;  // of the device
  bool keeps_;
  int64_t in_use_ = 0;
  std::vector<Block> free_[512];
  std::mutex mutex_;
  MemoryStats stats_ = {};  // of the device and its pools
};

namespace {

MemoryCache& cache(Device device) {
  // Never destroyed: tensors may outlive every static.
  static MemoryCache* const host = new MemoryCache(Device::cpu);
  static MemoryCache* const cuda = new MemoryCache(Device::cuda);
  return device == Device::cpu ? *host : *cuda;
}
thread_local MemoryCache* pool_in_use = nullptr;

}  // namespace

Memory allocate(Device device, size_t bytes) {
  if (bytes == 0) return {};
  check(bytes < size_t{1} << 48, "out of memory: a tensor of ", bytes, " bytes was asked for");
  MemoryCache& from = pool_in_use && pool_in_use->device() == device ? *pool_in_use : cache(device);
  const Memory m = {from.allocate(bytes), bytes, &from};
  if (poison) dispatch(device, [&](auto d) { fill_bytes(d, 0xFF, m.data, bytes); });
  return m;
}
void deallocate(const Memory& m) {
  if (m.data) m.cache->deallocate(m.data, m.bytes);
}

MemoryPool::MemoryPool(Device device) : cache_(new MemoryCache(device, cache(device))) {}
MemoryPool::~MemoryPool() { cache_->close(); }
Device MemoryPool::device() const { return cache_->device(); }
MemoryPool::Use::Use(const MemoryPool& pool) : before_(std::exchange(pool_in_use, pool.cache_)) {}
MemoryPool::Use::~Use() { pool_in_use = before_; }

MemoryStats memory_stats(Device device) { return cache(device).stats(); }
void reset_peak_memory(Device device) { cache(device).reset_peak(); }
void release_cached_memory(Device device) { cache(device).release_cached(); }
void poison_new_memory(bool on) { poison = on; }
bool memory_is_poisoned() { return poison; }

}  // namespace rondo
