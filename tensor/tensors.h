// A list of tensors that comes and goes with every step, as a std::vector whose memory is kept and used again.
#pragma once
#include <memory_resource>
#include <vector>

#include "tensor.h"

namespace rondo {

template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}

  T* allocate(size_t n) { return static_cast<T*>(pool().allocate(n * sizeof(T), alignof(T))); }
  void deallocate(T* p, size_t n) { pool().deallocate(p, n * sizeof(T), alignof(T)); }
  friend bool operator==(PoolAllocator, PoolAllocator) { return true; }

 private:
  // Never destroyed: lists may outlive everything.
  static std::pmr::memory_resource& pool() {
    static auto& p = *new std::pmr::synchronized_pool_resource;
    return p;
  }
};

using Tensors = std::vector<Tensor, PoolAllocator<Tensor>>;

}  // namespace rondo
