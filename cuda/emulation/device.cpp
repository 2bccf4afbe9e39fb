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

struct Block {
  const char* begin;
  size_t bytes;
  uint64_t serial;  // no two have the same
};
// What a graph does again, and the memory it needs for that.
struct Node {
  Where where;
  std::vector<Block> blocks;
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

std::map<const char*, Block> device_memory;
uint64_t next_serial = 0;
size_t memory_limit = size_t{1} << 40, memory_used = 0;
Graph* captured = nullptr;  // what is being written down
int64_t n_submitted = 0;

// The block that p points into (or right behind), or null.
const Block* block_of(const void* p) {
  const auto after = device_memory.upper_bound(static_cast<const char*>(p));
  if (!p || after == device_memory.begin()) return nullptr;
  const Block& block = std::prev(after)->second;
  return static_cast<const char*>(p) <= block.begin + block.bytes ? &block : nullptr;
}
std::vector<Block> blocks_of(std::span<const void* const> arguments) {
  std::vector<Block> blocks;
  for (const void* p : arguments)
    if (const Block* const block = block_of(p)) blocks.push_back(*block);
  return blocks;
}

// Device memory may be touched by work alone, and by it only what its arguments point into.
void carry_out(const Node& node) {
  struct Opened {
    const std::vector<Block>& blocks;
    Opened(const std::vector<Block>& blocks) : blocks(blocks) {
      for (const Block& b : blocks) allow(b.begin, b.bytes);
    }
    ~Opened() {
      for (const Block& b : blocks) forbid(b.begin, b.bytes);
    }
  } const opened(node.blocks);
  node.work();
}

void replay(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    for (const Block& b : node.blocks)
      if (const auto now = device_memory.find(b.begin); now == device_memory.end() || now->second.serial != b.serial)
        throw Error(std::string(node.where.file) + ":" + std::to_string(node.where.line) +
                    ": work written down, in a graph or for a second stream, uses memory that was freed since");
    carry_out(node);
  }
}

// A copy or a fill.
void submit_for(const void* to, const void* from, std::function<void()> work) {
  const void* const pointers[] = {to, from};
  if (captured && (!block_of(to) || (from && !block_of(from))))
    throw Error("a copy from or to the host's memory cannot be captured");
  submit(Where::current(), pointers, std::move(work));
}

}  // namespace

bool keeps_others_out() { return kForbids; }
bool may_touch(const void* p) { return !is_forbidden(p); }

void check_pointer(const void* p, Where where) {
  if (p && !block_of(p))
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
  Node node{where, blocks_of(arguments), std::move(work)};
  if (!captured) return carry_out(node);
  captured->nodes.push_back(std::move(node));
}

void submit_beside(CUstream_st* stream, std::span<const void* const> arguments, std::function<void()> work) {
  if (stream->waited_for != n_submitted) throw Error("a second stream does not wait for the work of the first");
  stream->asked.nodes.push_back({Where::current(), blocks_of(arguments), std::move(work)});
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
  const auto* const begin = static_cast<const char*>(*p);
  device_memory[begin] = {begin, bytes, ++next_serial};
  memory_used += bytes;
  forbid(begin, bytes);
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
  submit_for(to, from, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int byte, size_t bytes, cudaStream_t) {
  submit_for(p, nullptr, [=] { std::memset(p, byte, bytes); });
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
