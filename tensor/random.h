// Random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The numbers depend
// on (seed, stream, position) alone, never on a thread: equal on every device and for any number of threads.
#pragma once
#include <array>
#include <cstdint>

#include "tensor.h"

namespace rondo {

// The numbers 4 block, ..., 4 block + 3 of a stream, of 32 bits each.
std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t block);

// A place in a stream of random numbers; its three fields are its whole state and part of every checkpoint.
struct Generator {
  uint64_t seed = 0;
  uint64_t stream = 0;
  uint64_t position = 0;

  uint32_t next();           // 32 random bits
  double uniform();          // in [0, 1), 53 bits
  int64_t below(int64_t n);  // in 0..n-1, unbiased; n >= 1
  double normal();           // mean 0, standard deviation 1 (Box-Muller)
  friend bool operator==(const Generator&, const Generator&) = default;
};

// Fill a float tensor in place, drawn on the host: U(low, high), or N(mean, std).
void fill_uniform(const Tensor& t, double low, double high, Generator& g);
void fill_normal(const Tensor& t, double mean, double std, Generator& g);

}  // namespace rondo
