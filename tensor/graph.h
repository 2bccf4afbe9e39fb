// Work of a GPU that is captured once and then replayed by one call, as often as wanted: the same kernels on the same
// memory. What changes from replay to replay lies in tensors that are written in between.
#pragma once
#include <memory>
#include <utility>

#include "allocator.h"

namespace rondo {

class Graph {
 public:
  Graph() = default;
  // Calls f(), and captures what it asks the pool's device to do instead of doing it: nothing may be read meanwhile.
  // Tensors that f makes lie in the pool; those it uses must live as long as the graph. When f throws, all is as
  // before.
  template <class F>
  static Graph capture(const std::shared_ptr<MemoryPool>& pool, F&& f) {
    Capture written(pool);
    f();
    return written.end();
  }
  // Does what was captured, after all that the device was asked for before.
  void replay() const;
  explicit operator bool() const { return work_ != nullptr; }

 private:
  class Capture {
   public:
    explicit Capture(std::shared_ptr<MemoryPool> pool);
    ~Capture();
    Graph end();

   private:
    std::shared_ptr<MemoryPool> pool_;
    MemoryPool::Use use_;
    bool open_ = true;
  };

  std::shared_ptr<void> work_;
};

}  // namespace rondo
