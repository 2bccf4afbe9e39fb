// The device behind emulation.h: its memory, copies, and graphs of work that is written down. Compiled as scheduler.cpp
// is.
#include <cxxabi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulation/asan.h"
#include "cuda/emulation/emulation.h"

namespace emulation {

// What a graph does again, and the memory it needs for that.
struct Node {
  Where where;
  std::vector<std::pair<const char*, uint64_t>> blocks;  // where each begins, and its serial number
  std::function<void()> work;
};
struct Graph {
  std::vector<Node> nodes;
};

}  // namespace emulation

struct CUstream_st {
  emulation::Graph asked;   // and not done yet
  int64_t waited_for = -1;  // how many works of the first stream
};
struct CUevent_st {
  CUstream_st* stream = nullptr;  // where it was recorded
};

namespace emulation {

namespace {

struct Block {
  size_t bytes;
  uint64_t serial;  // no two have the same
};
std::map<const char*, Block> device_memory;
uint64_t next_serial = 0;
size_t memory_limit = size_t{1} << 40, memory_used = 0;
int open_devices = 0;
Graph* captured = nullptr;  // what is being written down
int64_t n_submitted = 0;

void set_access(bool allowed) {
  if (!kForbids) return;
  for (const auto& [p, block] : device_memory) allowed ? allow(p, block.bytes) : forbid(p, block.bytes);
}

// The block that p points into (or right behind), or the end.
auto block_of(const void* p) {
  const auto after = device_memory.upper_bound(static_cast<const char*>(p));
  if (!p || after == device_memory.begin()) return device_memory.end();
  const auto block = std::prev(after);
  return static_cast<const char*>(p) <= block->first + block->second.bytes ? block : device_memory.end();
}
bool on_device(const void* p) { return block_of(p) != device_memory.end(); }

// While one lives, the CPU may touch the block that p points into. To open all of many takes longer than a copy.
struct Opened {
  const char* begin = nullptr;
  size_t bytes = 0;
  Opened(const void* p) {
    const auto block = block_of(p);
    if (open_devices || block == device_memory.end()) return;
    begin = block->first, bytes = block->second.bytes;
    allow(begin, bytes);
  }
  ~Opened() {
    if (begin) forbid(begin, bytes);
  }
};

void replay(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    for (const auto& [begin, serial] : node.blocks)
      if (const auto block = device_memory.find(begin); block == device_memory.end() || block->second.serial != serial)
        throw Error(std::string(node.where.file) + ":" + std::to_string(node.where.line) +
                    ": work written down, in a graph or for a second stream, uses memory that was freed since");
    node.work();
  }
}

void write_down(Graph& graph, Where where, std::span<const void* const> arguments, std::function<void()> work) {
  Node node{where, {}, std::move(work)};
  for (const void* p : arguments)
    if (const auto block = block_of(p); block != device_memory.end())
      node.blocks.emplace_back(block->first, block->second.serial);
  graph.nodes.push_back(std::move(node));
}

// A copy or a fill.
void submit_for(const void* to, const void* from, std::function<void()> work) {
  const void* const pointers[] = {to, from};
  if (captured && (!on_device(to) || (from && !on_device(from))))
    throw Error("a copy from or to the host's memory cannot be captured");
  submit(Where::current(), pointers, std::move(work));
}

}  // namespace

Devices::Devices() {
  if (!open_devices++) set_access(true);
}
Devices::~Devices() {
  if (!--open_devices) set_access(false);
}

bool keeps_host_out() { return kForbids; }
bool host_may_touch(const void* p) { return !is_forbidden(p); }

void check_pointer(const void* p, Where where) {
  if (p && !on_device(p))
    throw Error(std::string(where.file) + ":" + std::to_string(where.line) + ": an argument points to host memory");
}

namespace {
std::FILE* list_file() {
  static std::FILE* const file = [] {
    const char* const name = std::getenv("EMULATION_LIST");
    std::FILE* const opened = name ? std::fopen(name, "w") : nullptr;
    if (name && !opened) throw Error(std::string("EMULATION_LIST: ") + name + " cannot be written");
    return opened;
  }();
  return file;
}
std::string readable(const std::type_info& type) {
  char* const name = abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr);
  std::string text = name ? name : type.name();
  std::free(name);
  for (const char* noise : {"rondo::", "cuda::", "(anonymous namespace)::", "std::tuple"})
    for (size_t at; (at = text.find(noise)) != text.npos;) text.erase(at, std::string(noise).size());
  return text;
}
}  // namespace

bool listing() { return list_file(); }
void list(const std::string& line) { std::fprintf(list_file(), "%s\n", line.c_str()); }
void list_kernel(Where where, const std::type_info& arguments, dim3 grid, dim3 block) {
  const std::string file = where.file;
  std::string line = "kernel " + file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line) + " " +
                     readable(arguments) + " blocks";
  for (unsigned n : {grid.x, grid.y, grid.z}) line += " " + std::to_string(n);
  list(line + " of " + std::to_string(block.x * block.y * block.z));
}

void limit_memory(size_t bytes) { memory_limit = bytes; }
int64_t submitted() { return n_submitted; }

void submit(Where where, std::span<const void* const> arguments, std::function<void()> work) {
  ++n_submitted;
  if (!captured) return work();
  write_down(*captured, where, arguments, std::move(work));
}

void submit_beside(CUstream_st* stream, std::span<const void* const> arguments, std::function<void()> work) {
  if (stream->waited_for != n_submitted) throw Error("a second stream does not wait for the work of the first");
  write_down(stream->asked, Where::current(), arguments, std::move(work));
}

}  // namespace emulation

using namespace emulation;

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = memory_limit;
  *free = *total - std::min(*total, memory_used);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
  size_t free, total;
  cudaMemGetInfo(&free, &total);
  if (bytes > free) return cudaErrorMemoryAllocation;
  if (posix_memalign(p, 256, bytes ? bytes : 1)) return cudaErrorMemoryAllocation;
  std::memset(*p, 0xff, bytes);
  device_memory[static_cast<char*>(*p)] = {bytes, ++next_serial};
  memory_used += bytes;
  if (!open_devices) forbid(*p, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  const auto block = device_memory.find(static_cast<char*>(p));
  memory_used -= block->second.bytes;
  allow(p, block->second.bytes);
  device_memory.erase(block);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  submit_for(to, from, [=] {
    const Opened opened[] = {to, from};
    std::memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int byte, size_t bytes, cudaStream_t) {
  submit_for(p, nullptr, [=] {
    const Opened opened(p);
    std::memset(p, byte, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return captured ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (captured) return cudaErrorIllegalState;
  captured = new Graph;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(captured, nullptr);
  return *graph ? cudaSuccess : cudaErrorIllegalState;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready = new Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  ++n_submitted;
  if (captured) return cudaErrorStreamCaptureUnsupported;
  if (listing()) list("graph");
  replay(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaGraphDestroy(graph); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (stream) stream->waited_for = n_submitted;
  if (stream || !event->stream) return cudaSuccess;
  const Graph now = std::exchange(event->stream->asked, {});
  if (captured)
    captured->nodes.insert(captured->nodes.end(), now.nodes.begin(), now.nodes.end());
  else
    replay(now);
  return cudaSuccess;
}
