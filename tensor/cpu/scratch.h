// Working memory of one tile of work: from a per-thread arena that is kept, given back when the Scratch goes.
#pragma once
#include "tensor/arena.h"

namespace rondo::cpu {

class Scratch {
 public:
  Scratch() : mark_(arena().mark()) {}
  ~Scratch() { arena().rewind(mark_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // n uninitialised elements, 64-byte aligned.
  template <class T>
  T* get(int64_t n) {
    return static_cast<T*>(arena().allocate(size_t(n) * sizeof(T)));
  }

 private:
  static Arena& arena() {
    thread_local Arena a;
    return a;
  }
  Arena::Mark mark_;
};

}  // namespace rondo::cpu
