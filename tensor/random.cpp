#include "tensor/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/parallel.h"

namespace rondo {

std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t position) {
  uint32_t c[4] = {uint32_t(position), uint32_t(position >> 32), uint32_t(stream), uint32_t(stream >> 32)};
  uint32_t key[2] = {uint32_t(seed), uint32_t(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {uint32_t(b >> 32) ^ c[1] ^ key[0], uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ key[1],
                              uint32_t(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    key[0] += 0x9E3779B9, key[1] += 0xBB67AE85;
  }
  return {c[0], c[1], c[2], c[3]};
}

namespace {
// The position counts 32-bit numbers: four of them lie at each Philox counter.
uint32_t at(const Generator& g, uint64_t position) { return philox(g.seed, g.stream, position / 4)[position % 4]; }
}  // namespace

uint32_t Generator::next() { return at(*this, position++); }

double Generator::uniform() {
  uint64_t high, low;
  if (position % 4 < 3) {  // both lie at one counter
    const std::array<uint32_t, 4> all = philox(seed, stream, position / 4);
    high = all[position % 4], low = all[position % 4 + 1], position += 2;
  } else {
    high = next(), low = next();
  }
  return double((high << 21) | (low >> 11)) * 0x1p-53;
}

int64_t Generator::below(int64_t n) {
  check(n >= 1, "Generator: below(", n, "), but n must be at least 1");
  const uint64_t range = uint64_t(n), reject = (uint64_t(0) - range) % range;  // 2^64 mod n values would come too often
  for (;;) {
    const uint64_t high = next(), x = (high << 32) | next();
    if (x >= reject) return int64_t(x % range);
  }
}

double Generator::normal() {
  const double u = 1 - uniform(), v = uniform();  // u in (0, 1]
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

namespace {
// Each element is draw(g), which takes so many 32-bit numbers of the stream: so threads know where each element's
// begin. Numbers for another device are drawn here and copied.
template <class F>
void fill_with(const Tensor& t, Generator& g, uint64_t numbers, F&& draw) {
  constexpr int64_t kChunk = 4096;
  const Tensor host = t.device() == Device::cpu ? t : Tensor(t.shape(), t.dtype());
  const int64_t n = t.numel();
  dispatch_float(t.dtype(), [&]<class T>() {
    T* const to = host.data<T>();
    parallel_for((n + kChunk - 1) / kChunk, [&](int64_t chunk) {
      const int64_t begin = chunk * kChunk, end = std::min(begin + kChunk, n);
      Generator here = g;
      here.position += uint64_t(begin) * numbers;
      for (int64_t i = begin; i < end; ++i) to[i] = T(draw(here));
    });
  });
  g.position += uint64_t(n) * numbers;
  if (t.device() != Device::cpu) assign(host, t);
}
}  // namespace

void fill_uniform(const Tensor& t, double low, double high, Generator& g) {
  fill_with(t, g, 2, [&](Generator& here) { return low + (high - low) * here.uniform(); });
}

void fill_normal(const Tensor& t, double mean, double std, Generator& g) {
  fill_with(t, g, 4, [&](Generator& here) { return mean + std * here.normal(); });
}

}  // namespace rondo
