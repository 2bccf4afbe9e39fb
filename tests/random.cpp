// Philox against the published vectors of Random123, and the distributions made of it.
#include "tensor/random.h"

#include <cmath>

#include "tensor/parallel.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

TEST_CASE("philox: known answers (Random123, kat_vectors, philox4x32 10)") {
  CHECK(philox(0, 0, 0) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("generator: its place is its whole state") {
  Generator a{5, 6, 0};
  for (int i = 0; i < 7; ++i) a.next();
  Generator b{5, 6, 7};
  CHECK(a == b);
  CHECK(a.next() == b.next());
  Generator c{5, 7, 0}, d{5, 6, 0};
  CHECK(c.next() != d.next());
}

TEST_CASE("generator: moments") {
  Generator g{1, 2, 0};
  constexpr int n = 200000;
  double u1 = 0, u2 = 0, n1 = 0, n2 = 0, n4 = 0, lowest = 1, highest = 0;
  for (int i = 0; i < n; ++i) {
    const double u = g.uniform(), x = g.normal();
    u1 += u, u2 += u * u, n1 += x, n2 += x * x, n4 += x * x * x * x;
    lowest = std::min(lowest, u), highest = std::max(highest, u);
  }
  CHECK(u1 / n == doctest::Approx(0.5).epsilon(0.005));
  CHECK(u2 / n == doctest::Approx(1.0 / 3).epsilon(0.01));
  CHECK(std::abs(n1 / n) < 0.01);
  CHECK(n2 / n == doctest::Approx(1).epsilon(0.02));
  CHECK(n4 / n == doctest::Approx(3).epsilon(0.05));
  CHECK(lowest >= 0);
  CHECK(highest < 1);
}

TEST_CASE("generator: below") {
  Generator g{3, 0, 0};
  int counts[5] = {};
  for (int i = 0; i < 50000; ++i) ++counts[g.below(5)];
  for (int c : counts) CHECK(std::abs(c - 10000) < 500);
  CHECK(g.below(1) == 0);
  CHECK(error_of([&] { g.below(0); }) == "Generator: below(0), but n must be at least 1");
}

TEST_CASE("generator: fills") {
  Generator g{3, 0, 0};
  const Tensor t({1000});
  fill_uniform(t, -2, 3, g);
  double low = 9, high = -9;
  for (float x : t.to_vector<float>()) low = std::min<double>(low, x), high = std::max<double>(high, x);
  CHECK(low >= -2);
  CHECK(low < -1.9);
  CHECK(high <= 3);
  CHECK(high > 2.9);
  CHECK(g.position == 2000);
}

TEST_CASE("generator: fills draw one by one, on any number of threads") {
  const int threads = num_threads();
  constexpr uint64_t kHigh = uint64_t(1) << 32;  // what only the upper halves of the numbers hold
  for (const uint64_t position : {uint64_t(0), uint64_t(1), uint64_t(2), uint64_t(3), 4 * kHigh - 5})
    for (const int n : {1, 3}) {
      set_num_threads(n);
      Generator filled{3 + 7 * kHigh, 5 + 9 * kHigh, position}, drawn = filled;
      const Tensor uniform({10000}, DType::f64), normal({5000}, DType::f32);
      fill_uniform(uniform, 0, 1, filled);
      fill_normal(normal, 0, 1, filled);
      bool same = true;
      for (int64_t i = 0; i < 10000; ++i) same &= uniform.data<double>()[i] == drawn.uniform();
      for (int64_t i = 0; i < 5000; ++i) same &= normal.data<float>()[i] == float(drawn.normal());
      CHECK(same);
      CHECK(filled == drawn);
    }
  set_num_threads(threads);
}

}  // namespace
}  // namespace rondo::testing
