// Rows of bench/rondo_bench: what is timed, and what its speed is compared with.
#pragma once
#include <benchmark/benchmark.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace rondo::bench {

// What this machine gives on all threads, measured once in every run.
double copy_ceiling();  // bytes read and written per second by a copy of 64 MiB; work in the caches can be faster
double fma_ceiling();   // f32 operations per second of multiply-adds that stay in registers
// What its GPU gives.
double gpu_copy_ceiling();     // by a copy of 512 MiB
double gpu_product_ceiling();  // operations per second of a product of bf16 matrices [8192, 8192]

// What one run must move or compute at least: flops where they bound it, else bytes. With neither: how many equal
// things it does.
struct Cost {
  double bytes = 0, flops = 0, times = 1;
  Device device = Device::cpu;
};

// A row's work: `timed` is called once an iteration and returns the seconds that count.
struct Work {
  std::function<double()> timed;
  Cost cost;
};
// `prepare` makes the inputs; only rows that are asked for are prepared. Timed so often, or as long as is asked for.
void add_row(const std::string& name, std::function<Work()> prepare, int64_t times = 0);

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string text(const Shape& shape);  // 1024x512
// "layer_norm 1024x512 512 f32": what bench/compare.sh knows a row by.
std::string row_name(const std::string& op, const std::vector<Shape>& shapes);

void add_rows();  // all rows of the program
void add_product_rows();
void add_model_rows();    // whole steps of small models
void add_runtime_rows();  // tape, allocator, thread pool
void add_ladder_rows();   // from the obvious way to the one that is used
void add_gpu_rows();      // none where there is no GPU

}  // namespace rondo::bench
