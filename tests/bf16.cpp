// Products of bf16, by every kind of instruction that this processor has, against products in f64.
#include "tensor/cpu/gemm_pairs.h"
#include "tensor/cpu/round.h"
#include "tensor/cpu/tiles.h"
#include "tensor/kernels.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

using cpu::pairs::Instructions;

// Runs f with each kind of instruction in turn.
template <class F>
void with_each_instruction(F&& f) {
  const Instructions before = cpu::pairs::instructions();
  for (const Instructions i : cpu::pairs::found_instructions()) {
    CAPTURE(int(i));
    cpu::pairs::use_instructions(i);
    f();
  }
  cpu::pairs::use_instructions(before);
}

Tensor narrowed(const Tensor& t) { return to(t, DType::bf16); }
Tensor rounded(const Tensor& t) { return to(narrowed(t), DType::f64); }

// Not a number, all over the memory that products work in: what they read of it shows.
void poison_scratch() {
  const Tensor nan = full({300, 1100}, std::numeric_limits<double>::quiet_NaN(), DType::bf16);
  gemm(Cpu{}, {.m = 300, .n = 100, .k = 1100, .transpose_b = true, .lda = 1100, .ldb = 1100, .ldc = 100}, nan, nan,
       zeros({300, 100}));
}

// Rounding errors of k sums of numbers of about 1; beside them bf16's rounding of the result.
void check_product(const Gemm& how, DType b_dtype, DType c_dtype) {
  const int64_t a_rows = how.transpose_a ? how.k : how.m, b_rows = how.transpose_b ? how.n : how.k;
  const Tensor a = randn({how.batch, a_rows, how.lda}, DType::f32, 1),
               b = randn({how.batch, b_rows, how.ldb}, DType::f32, 2), before = randn({how.batch, how.m, how.ldc});
  const Tensor expected = clone(before);
  gemm(Cpu{}, how, rounded(a), rounded(b), expected);
  with_each_instruction([&] {
    const Tensor c = to(before, c_dtype);
    poison_scratch();
    gemm(Cpu{}, how, narrowed(a), to(b, b_dtype), c);
    INFO(how.m, " x ", how.n, " x ", how.k, ", transposed: ", how.transpose_a, how.transpose_b);
    double worst = 0;
    const std::vector<double> found = values(c), wanted = values(expected);
    for (size_t i = 0; i < found.size(); ++i) {
      const double room = c_dtype == DType::bf16 ? std::abs(wanted[i]) * 0x1p-8 : 0;
      if (!(std::abs(found[i] - wanted[i]) - room <= worst)) worst = std::abs(found[i] - wanted[i]) - room;
    }
    CHECK(worst <= 1e-6 * double(how.k + 1) + (c_dtype == DType::bf16 ? 0.01 : 0));
  });
}

// The rows of tiles as AMX holds them, as plain memory.
struct PlainTiles {
  static inline uint32_t tiles[8][16][16];
  static float& sum(int tile, int i, int j) { return reinterpret_cast<float&>(tiles[tile][i][j]); }
  template <int tile>
  static void zero() {
    std::memset(tiles[tile], 0, sizeof tiles[tile]);
  }
  template <int tile>
  static void load(const void* p, int64_t stride) {
    for (int i = 0; i < 16; ++i) std::memcpy(tiles[tile][i], static_cast<const char*>(p) + i * stride, 64);
  }
  template <int tile>
  static void stream(const void* p, int64_t stride) {
    load<tile>(p, stride);
  }
  template <int tile>
  static void store(void* p, int64_t stride) {
    for (int i = 0; i < 16; ++i) std::memcpy(static_cast<char*>(p) + i * stride, tiles[tile][i], 64);
  }
  static float half(uint32_t pair, int which) { return std::bit_cast<float>(which ? pair & 0xffff0000u : pair << 16); }
  template <int c, int a, int b>
  static void multiply() {
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 16; ++k)
        for (int j = 0; j < 16; ++j)
          for (int w : {0, 1}) sum(c, i, j) += half(tiles[a][i][k], w) * half(tiles[b][k][j], w);
  }
};

template <int N>
void check_tiles(int64_t n_pairs, bool accumulate) {
  const int64_t k = 2 * n_pairs, columns = 16 * N, stride = k + 6, ldc = columns + 3;
  const Tensor a = narrowed(randn({32, stride}, DType::f32)), b = narrowed(randn({k, columns}, DType::f32, 2)),
               c = randn({32, ldc}, DType::f32, 3);
  std::vector<uint32_t> panel(size_t(n_pairs * columns));
  for (int64_t p = 0; p < k; ++p)
    for (int64_t j = 0; j < columns; ++j)
      panel[size_t(p / 2 * columns + j)] |= uint32_t(b.data<bf16>()[p * columns + j].bits) << 16 * (p % 2);
  const Tensor expected = to(c, DType::f64);
  const Gemm how{.m = 32, .n = columns, .k = k, .accumulate = accumulate, .lda = stride, .ldb = columns, .ldc = ldc};
  gemm(Cpu{}, how, to(a, DType::f64), to(b, DType::f64), expected);
  cpu::tile_product<PlainTiles, N>(n_pairs, a.data<bf16>(), stride, panel.data(), c.data<float>(), ldc, accumulate,
                                   panel.data(), 0);
  CHECK(max_abs_diff(c, expected) < 1e-4);
}

}  // namespace

TEST_CASE("bf16 products: every shape, side and transpose") {
  // Odd and even, one element, more than a block of k, tiles and panels that are not whole.
  const int64_t sizes[][3] = {{1, 1, 1},      {2, 3, 5},     {13, 33, 31},  {32, 32, 32},   {33, 64, 64},
                              {65, 17, 100},  {5, 40, 16},   {31, 48, 515}, {40, 70, 1027}, {100, 200, 96},
                              {290, 70, 130}, {70, 600, 65}, {3, 0, 4},     {0, 5, 2},      {4, 5, 0}};
  for (const auto& [m, n, k] : sizes)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const bool accumulate : {false, true})
          for (const DType b : {DType::f32, DType::bf16})
            for (const DType c : {DType::f32, DType::bf16}) {
              check_product({.m = m,
                             .n = n,
                             .k = k,
                             .transpose_a = ta,
                             .transpose_b = tb,
                             .accumulate = accumulate,
                             .lda = ta ? m : k,
                             .ldb = tb ? k : n,
                             .ldc = n},
                            b, c);
            }
}

TEST_CASE("bf16: rows are rounded as their numbers are") {
  // Every bf16 and what lies next to it, halfway, and next to that: zeros, subnormals, infinities, NaN among them.
  std::vector<float> x;
  for (uint32_t high = 0; high < 0x10000; ++high)
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      x.push_back(std::bit_cast<float>(high << 16 | low));
  for (const size_t n : {x.size(), size_t{77}}) {
    std::vector<bf16> y(n + 1);
    cpu::round_row(int64_t(n), x.data(), y.data());
    size_t different = 0;
    for (size_t i = 0; i < n; ++i) different += y[i].bits != bf16(x[i]).bits;
    CHECK(different == 0);
    CHECK(y[n].bits == 0);
  }
}

TEST_CASE("bf16 products: batches, and parts of wider rows") {
  for (const DType c : {DType::f32, DType::bf16}) {
    const Gemm batch{.m = 20,
                     .n = 30,
                     .k = 33,
                     .lda = 33,
                     .ldb = 30,
                     .ldc = 30,
                     .batch = 3,
                     .stride_a = 660,
                     .stride_b = 990,
                     .stride_c = 600};
    check_product(batch, DType::bf16, c);
    check_product({.m = 70, .n = 90, .k = 130, .transpose_b = true, .lda = 135, .ldb = 141, .ldc = 97}, DType::f32, c);
  }
}

TEST_CASE("bf16 products: tiles, step by step as the processor makes them") {
  for (const int64_t n_pairs : {16, 48})
    for (const bool accumulate : {false, true})
      check_tiles<1>(n_pairs, accumulate), check_tiles<2>(n_pairs, accumulate);
}

TEST_CASE("bf16 products: what a product does not read may be anything") {
  // Odd k: the pair of the last column has no second half. Its memory holds NaN, here and behind each row.
  const int64_t m = 40, n = 40, k = 33;
  const Tensor a = full({m, k + 2}, NAN, DType::bf16), b = full({k + 2, n}, NAN, DType::bf16);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t p = 0; p < k; ++p) a.data<bf16>()[i * (k + 2) + p] = bf16(1), b.data<bf16>()[p * n + i] = bf16(2);
  with_each_instruction([&] {
    const Tensor c = full({m, n}, NAN);
    gemm(Cpu{}, {.m = m, .n = n, .k = k, .lda = k + 2, .ldb = n, .ldc = n}, a, b, c);
    CHECK(max_abs_diff(c, full({m, n}, 66)) == 0);
  });
}

}  // namespace rondo::testing
