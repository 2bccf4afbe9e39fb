#include "tensor/graph.h"

#include "cuda/graph.h"
#include "tensor/check.h"
#include "tensor/dispatch.h"

namespace rondo {

Graph::Capture::Capture(std::shared_ptr<MemoryPool> pool) : pool_(std::move(pool)), use_(*pool_) {
  check(pool_->device() == Device::cuda, "Graph: work on ", pool_->device(),
        " is done at once; only a GPU's is captured");
  if constexpr (kHasCuda) cuda::begin_capture();
}

Graph::Capture::~Capture() {
  if constexpr (kHasCuda)
    if (open_) cuda::abandon_capture();
}

Graph Graph::Capture::end() {
  Graph graph;
  if constexpr (kHasCuda) {
    open_ = false;
    // The memory goes when the work is gone.
    graph.work_ = {cuda::end_capture(), [pool = pool_](void* work) { cuda::drop_graph(work); }};
  }
  return graph;
}

void Graph::replay() const {
  if constexpr (kHasCuda) cuda::run_graph(work_.get());
}

}  // namespace rondo
