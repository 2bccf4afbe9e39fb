// Work that is written down instead of done, to be done later as often as wanted: CUDA's graphs, for tensor/graph.h.
#pragma once

namespace rondo::cuda {

void begin_capture();
// What was written down since, ready to run. Throws Error where something cannot be; nothing is being captured then.
void* end_capture();
// Ends the capture and forgets what was written down.
void abandon_capture();

void run_graph(void* graph);
void drop_graph(void* graph);

}  // namespace rondo::cuda
