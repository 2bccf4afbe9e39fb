// One thread pool for everything. Work is cut into tiles whose borders depend on the problem alone, never on the number
// of threads, and each tile runs on one thread: results have the same bits for any number of threads.
#pragma once
#include <cstdint>
#include <type_traits>

namespace rondo {

// How many threads work, the caller included. Default: what the affinity mask and the cgroup quota allow.
// Change it only while nothing computes.
int num_threads();
void set_num_threads(int n);

// Runs tile(context, i) for all i in 0..n_tiles-1. Nested calls run their tiles in place. What a tile throws (the first
// one, where several do) reaches the caller when no tile runs any more; the others may have run or not.
void run_tiles(int64_t n_tiles, void* context, void (*tile)(void* context, int64_t i));

// Calls f(i) for every tile i in 0..n_tiles-1, in any order, on any thread.
template <class F>
void parallel_for(int64_t n_tiles, F&& f) {
  run_tiles(n_tiles, (void*)&f,
            [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<F>*>(context))(i); });
}

// Calls f(begin, end) for chunks of `grain` elements that cover 0..n-1.
template <class F>
void parallel_chunks(int64_t n, int64_t grain, F&& f) {
  parallel_for((n + grain - 1) / grain,
               [&](int64_t i) { f(i * grain, i * grain + grain < n ? i * grain + grain : n); });
}

}  // namespace rondo
