#include "cuda/graph.h"

#include "cuda/context.h"
#include "cuda/device.cuh"
#include "tensor/check.h"

namespace rondo::cuda {

// Relaxed: the pool asks for memory meanwhile. Nothing else does that would disturb: there is one stream.
void begin_capture() {
  checked(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
}

void* end_capture() {
  cudaGraph_t graph = nullptr;
  checked(cudaStreamEndCapture(stream(), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t ready = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  checked(made, "cudaGraphInstantiate");
  return ready;
}

void abandon_capture() {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream(), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();  // that it was invalid is known
}

void run_graph(void* graph) {
  checked(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream()), "cudaGraphLaunch");
}

void drop_graph(void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

}  // namespace rondo::cuda
