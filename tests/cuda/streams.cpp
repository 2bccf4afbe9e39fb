// The emulation's second stream, on which sums over several ranks go on beside other work.
#include "cuda/emulation/emulation.h"
#include "tensor/allocator.h"
#include "tensor/communicator.h"
#include "tensor/graph.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// A second stream, and how often its work was done.
struct Beside {
  cudaStream_t stream;
  cudaEvent_t event;
  int done = 0;
  Tensor memory = zeros({4}, DType::f32, Device::cuda);

  Beside() {
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  }
  ~Beside() {
    cudaEventDestroy(event);
    cudaStreamDestroy(stream);
  }
  void wait(cudaStream_t second, cudaStream_t first) {
    cudaEventRecord(event, first);
    cudaStreamWaitEvent(second, event, 0);
  }
  void ask() {
    const void* const pointers[] = {memory.bytes()};
    emulation::submit_beside(stream, pointers, [this] { ++done; });
  }
};

std::string fault_of(const std::function<void()>& f) {
  try {
    f();
    return "(no fault)";
  } catch (const emulation::Error& e) {
    return e.what();
  }
}

}  // namespace

TEST_CASE("emulation: work beside is done as late as it may be, and must wait and be waited for") {
  Beside beside;
  CHECK(fault_of([&] { beside.ask(); }) == "a second stream does not wait for the work of the first");
  beside.wait(beside.stream, nullptr);
  beside.ask();
  zeros({1}, DType::f32, Device::cuda);
  CHECK(beside.done == 0);
  CHECK(fault_of([&] { beside.ask(); }) == "a second stream does not wait for the work of the first");
  beside.wait(nullptr, beside.stream);
  CHECK(beside.done == 1);
  beside.wait(nullptr, beside.stream);
  CHECK(beside.done == 1);
}

TEST_CASE("emulation: memory that is gone before the work beside is done") {
  Beside beside;
  beside.wait(beside.stream, nullptr);
  beside.ask();
  beside.memory = {};
  release_cached_memory(Device::cuda);
  CHECK(fault_of([&] { beside.wait(nullptr, beside.stream); }).find("uses memory that was freed since") !=
        std::string::npos);
}

TEST_CASE("emulation: work beside in a graph is done each time") {
  Beside beside;
  const Graph graph = Graph::capture(std::make_shared<MemoryPool>(Device::cuda), [&] {
    beside.wait(beside.stream, nullptr);
    beside.ask();
    beside.wait(nullptr, beside.stream);
  });
  CHECK(beside.done == 0);
  graph.replay();
  graph.replay();
  CHECK(beside.done == 2);
}

TEST_CASE("emulation: a communicator's wait is what its means are done by") {
  Communicator alone({0, 1}, "", {});
  Tensor t = zeros({4}, DType::f32, Device::cuda);
  alone.begin_mean({&t, 1});
  t = {};
  release_cached_memory(Device::cuda);
  CHECK(fault_of([&] { alone.wait(); }).find("uses memory that was freed since") != std::string::npos);
}

}  // namespace rondo::testing
