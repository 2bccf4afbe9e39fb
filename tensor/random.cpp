#include "tensor/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/parallel.h"

namespace rondo {
namespace {
// The multipliers of Philox, and what is added to its key from round to round.
constexpr uint64_t kMultiply[] = {0xD2511F53, 0xCD9E8D57};
constexpr uint32_t kWeyl[] = {0x9E3779B9, 0xBB67AE85};
constexpr int kRounds = 10;
}  // namespace

std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t block) {
  uint32_t c[4] = {uint32_t(block), uint32_t(block >> 32), uint32_t(stream), uint32_t(stream >> 32)};
  uint32_t key[2] = {uint32_t(seed), uint32_t(seed >> 32)};
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t a = kMultiply[0] * c[0], b = kMultiply[1] * c[2];
    const uint32_t next[4] = {uint32_t(b >> 32) ^ c[1] ^ key[0], uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ key[1],
                              uint32_t(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    key[0] += kWeyl[0], key[1] += kWeyl[1];
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

namespace {

// What draws is a Generator, or Ahead.
template <class G>
double normal_of(G& g) {
  const double u = 1 - g.uniform(), v = g.uniform();  // u in (0, 1]
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

// The numbers of a Generator, made many at once: the same ones, in loops that are vectorised.
class Ahead {
 public:
  explicit Ahead(const Generator& g) : g_(g), counter_(g.position / 4), at_(kNumbers) {
    if (g.position % 4 == 0) return;
    make();
    at_ = int(g.position % 4);
  }
  uint32_t next() {
    if (at_ == kNumbers) make();
    return numbers_[at_++];
  }
  double uniform() {
    const uint64_t high = next();
    return double((high << 21) | (next() >> 11)) * 0x1p-53;
  }
  double normal() { return normal_of(*this); }

 private:
  static constexpr int kCounters = 32, kNumbers = 4 * kCounters;

  void make() {  // philox, at kCounters positions side by side
    uint32_t c[4][kCounters], key[2] = {uint32_t(g_.seed), uint32_t(g_.seed >> 32)};
    for (int i = 0; i < kCounters; ++i) {
      const uint64_t position = counter_ + uint64_t(i);
      c[0][i] = uint32_t(position), c[1][i] = uint32_t(position >> 32);
      c[2][i] = uint32_t(g_.stream), c[3][i] = uint32_t(g_.stream >> 32);
    }
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kCounters; ++i) {
        const uint64_t a = kMultiply[0] * c[0][i], b = kMultiply[1] * c[2][i];
        c[0][i] = uint32_t(b >> 32) ^ c[1][i] ^ key[0], c[1][i] = uint32_t(b);
        c[2][i] = uint32_t(a >> 32) ^ c[3][i] ^ key[1], c[3][i] = uint32_t(a);
      }
      key[0] += kWeyl[0], key[1] += kWeyl[1];
    }
    for (int i = 0; i < kNumbers; ++i) numbers_[i] = c[i % 4][i / 4];
    counter_ += kCounters;
    at_ = 0;
  }

  Generator g_;
  uint64_t counter_;
  int at_;
  uint32_t numbers_[kNumbers];
};

}  // namespace

double Generator::normal() { return normal_of(*this); }

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
      Generator first = g;
      first.position += uint64_t(begin) * numbers;
      Ahead here(first);
      for (int64_t i = begin; i < end; ++i) to[i] = T(draw(here));
    });
  });
  g.position += uint64_t(n) * numbers;
  if (t.device() != Device::cpu) assign(host, t);
}
}  // namespace

void fill_uniform(const Tensor& t, double low, double high, Generator& g) {
  fill_with(t, g, 2, [&](Ahead& here) { return low + (high - low) * here.uniform(); });
}

void fill_normal(const Tensor& t, double mean, double std, Generator& g) {
  fill_with(t, g, 4, [&](Ahead& here) { return mean + std * here.normal(); });
}

}  // namespace rondo
