// Matrix products against loops in double, over shapes that fit no register block, and their gradients.
#include "autograd/ops.h"
#include "tensor/cpu/gemm.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"
#include "tests/runs.h"

namespace rondo::testing {
namespace {

// The largest error of C = op(A) op(B) (+ C0), in units of eps * (|A| |B| + |C0|).
double gemm_error(int64_t m, int64_t n, int64_t k, bool ta, bool tb, bool accumulate, DType dtype) {
  const Tensor a = randn({m, k}, dtype, 1), b = randn({k, n}, dtype, 2), c = randn({m, n}, dtype, 3);
  const std::vector<double> before = values(c), x = values(a), y = values(b);
  const Gemm how{.m = m,
                 .n = n,
                 .k = k,
                 .transpose_a = ta,
                 .transpose_b = tb,
                 .accumulate = accumulate,
                 .lda = ta ? m : k,
                 .ldb = tb ? k : n,
                 .ldc = n};
  gemm(Cpu{}, how, a, b, c);
  const std::vector<double> after = values(c);
  const double eps = dtype == DType::f32 ? 6e-8 : 1.1e-16;
  const double *xs = x.data(), *ys = y.data();
  const int64_t next_x = ta ? m : 1, next_y = tb ? 1 : n;
  double worst = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = accumulate ? before[size_t(i * n + j)] : 0, size = std::abs(sum);
      const int64_t row = ta ? i : i * k, column = tb ? j * k : j;
      for (int64_t p = 0; p < k; ++p) {
        const double product = xs[row + p * next_x] * ys[column + p * next_y];
        sum += product, size += std::abs(product);
      }
      const double error = std::abs(sum - after[size_t(i * n + j)]) / (eps * size + 1e-300);
      worst = error <= worst ? worst : error;
    }
  return worst;
}

TEST_CASE("gemm: odd shapes, transposes, accumulation") {
  const int64_t sizes[] = {1, 2, 5, 6, 7, 12, 13, 16, 17, 31, 33, 48, 65};
  Generator g{1, 0, 0};
  for (int i = 0; i < 300; ++i) {
    const int64_t m = sizes[g.below(13)], n = sizes[g.below(13)], k = sizes[g.below(13)];
    const bool ta = g.below(2), tb = g.below(2), accumulate = g.below(2);
    for (DType dtype : {DType::f32, DType::f64})
      CHECK_MESSAGE(gemm_error(m, n, k, ta, tb, accumulate, dtype) < double(k) + 2, m, " ", n, " ", k, " ", ta, tb,
                    accumulate);
  }
}

TEST_CASE("gemm: shapes of several tiles and blocks of depth") {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      CHECK(gemm_error(203, 541, 259, ta, tb, false, DType::f32) < 60);
      CHECK(gemm_error(101, 70, 1025, ta, tb, true, DType::f32) < 120);
      CHECK(gemm_error(97, 130, 513, ta, tb, true, DType::f64) < 120);
    }
  // A transposed and k long: parts of k, where C is small, and tiles of C where it is not.
  for (const int64_t k : {512, 513, 1024, 1537, 4100, 4353})
    for (const bool accumulate : {false, true}) {
      CHECK(gemm_error(65, 130, k, true, false, accumulate, DType::f32) < 120);
      CHECK(gemm_error(33, 7, k, true, true, accumulate, DType::f64) < 120);
    }
  CHECK(gemm_error(257, 256, 1100, true, false, true, DType::f32) < 120);
  // A small B, read where it lies but for the part of a register at the end of its rows.
  for (const int64_t n : {64, 70, 80, 97})
    for (const int64_t k : {40, 128, 300})
      for (const bool ta : {false, true}) {
        CHECK(gemm_error(131, n, k, ta, false, ta, DType::f32) < 60);
        CHECK(gemm_error(131, n, k, ta, false, !ta, DType::f64) < 60);
      }
}

TEST_CASE("gemm: empty sides") {
  CHECK(gemm_error(0, 5, 3, false, false, false, DType::f32) == 0);
  CHECK(gemm_error(5, 0, 3, false, false, false, DType::f32) == 0);
  CHECK(gemm_error(5, 7, 0, false, false, false, DType::f32) == 0);  // zeros, not garbage
  CHECK(gemm_error(5, 7, 0, true, true, true, DType::f64) == 0);
}

TEST_CASE("gemm_onto: what gemm adds to a copy of base, and nothing between the rows") {
  struct Types {
    DType a, b, c;
  };
  struct Size {
    int64_t m, n, k, batch;
    bool transposed;
  };
  const DType f32 = DType::f32, f64 = DType::f64, bf16 = DType::bf16;
  for (const Types& t : {Types{f32, f32, f32}, Types{f64, f64, f64}, Types{bf16, bf16, bf16}, Types{bf16, f32, bf16},
                         Types{bf16, bf16, f32}, Types{bf16, f32, f32}})
    // One tile; tiles of C; parts of k; products of a batch; nothing to add.
    for (const Size& s : {Size{5, 7, 3, 1, false}, Size{203, 300, 130, 1, false}, Size{65, 30, 1100, 1, true},
                          Size{6, 5, 9, 3, false}, Size{5, 7, 0, 1, false}}) {
      Gemm how{.m = s.m,
               .n = s.n,
               .k = s.k,
               .transpose_a = s.transposed,
               .lda = s.transposed ? s.m : s.k,
               .ldb = s.n,
               .ldc = s.n + 2,
               .batch = s.batch};
      how.stride_a = s.m * s.k, how.stride_b = s.k * s.n, how.stride_c = s.m * how.ldc;
      const Tensor a = randn({s.batch, s.m, s.k}, t.a, 1), b = randn({s.batch, s.k, s.n}, t.b, 2),
                   base = randn({s.batch, s.m, how.ldc}, t.c, 3), want = clone(base);
      const Tensor got = full(base.shape(), 7, t.c);
      gemm_onto(Cpu{}, how, a, b, base, got);
      how.accumulate = true;
      gemm(Cpu{}, how, a, b, want);
      INFO(t.a, " ", t.b, " ", t.c, ": ", s.m, " ", s.n, " ", s.k);
      CHECK(same_bits(narrow(got, 2, 0, s.n), narrow(want, 2, 0, s.n)));
      CHECK(same_bits(narrow(got, 2, s.n, 2), full({s.batch, s.m, 2}, 7, t.c)));
    }
}

TEST_CASE("gemm: the same bits for any number of threads, and for a part of the rows") {
  const Tensor a = randn({300, 270}, DType::f32, 1), b = randn({270, 200}, DType::f32, 2);
  const int before = num_threads();
  set_num_threads(1);
  const Tensor one = matmul(a, b), part = matmul(narrow(a, 0, 37, 5), b);
  const Tensor small = randn({270, 110}, DType::f32, 5), one_small = matmul(a, small);
  const Tensor x = randn({2000, 90}, DType::f32, 3), dy = randn({2000, 110}, DType::f32, 4);
  const auto gradient = [&] {  // of a weight: parts of k
    const Tensor dw({110, 90}, DType::f32);
    gemm(Cpu{}, {.m = 110, .n = 90, .k = 2000, .transpose_a = true, .lda = 110, .ldb = 90, .ldc = 90}, dy, x, dw);
    return dw;
  };
  const Tensor dw = gradient();
  set_num_threads(4);
  CHECK(same_bits(one, matmul(a, b)));
  CHECK(same_bits(one_small, matmul(a, small)));
  CHECK(same_bits(dw, gradient()));
  set_num_threads(before);
  CHECK(same_bits(part, narrow(one, 0, 37, 5)));
}

TEST_CASE("matmul: leading dimensions broadcast") {
  struct Shapes {
    Shape a, b, y;
  };
  for (const Shapes& s : {Shapes{{2, 4}, {3, 4, 5}, {3, 2, 5}},
                          {{3, 2, 4}, {4, 5}, {3, 2, 5}},
                          {{7, 1}, {2, 3, 1, 2}, {2, 3, 7, 2}},
                          {{2, 3, 1, 7}, {7, 2}, {2, 3, 1, 2}},
                          {{5, 3}, {0, 3, 2}, {0, 5, 2}},
                          {{0, 2, 3}, {3, 4}, {0, 2, 4}},
                          {{2, 0}, {3, 0, 4}, {3, 2, 4}},
                          {{5, 2, 3}, {1, 3, 4}, {5, 2, 4}},
                          {{4, 1, 2, 3}, {6, 3, 2}, {4, 6, 2, 2}},
                          {{1, 2, 3}, {0, 3, 4}, {0, 2, 4}}}) {
    CAPTURE(s.b);
    const Tensor a = randn(s.a), b = randn(s.b, DType::f64, 2);
    const auto whole = [](const Tensor& t, const Shape& y) {  // repeated for every matrix of the batch
      return broadcast_to(t, y.with(-2, t.dim(-2)).with(-1, t.dim(-1)));
    };
    const auto product = [](auto& in) { return matmul(in[0], in[1]); };
    const auto repeated = [&](auto& in) { return matmul(whole(in[0], s.y), whole(in[1], s.y)); };
    const std::vector<Tensor> found = run(product, {a, b}), expected = run(repeated, {a, b});
    CHECK(found[0].shape() == s.y);
    for (size_t i = 0; i < 3; ++i) CHECK(max_abs_diff(found[i], expected[i]) < 1e-14);
    gradcheck(product, {a, b});
    check_f32_against_f64(product, {a, b}, 1e-6);
  }
}

TEST_CASE("matmul: batches and gradients") {
  gradcheck([](auto& in) { return matmul(in[0], in[1]); }, {randn({3, 4}), randn({4, 5})});
  gradcheck([](auto& in) { return matmul(in[0], in[1]); }, {randn({2, 3, 1, 7}), randn({2, 3, 7, 2})});
  gradcheck([](auto& in) { return matmul(in[0], in[1]); }, {randn({0, 4}), randn({4, 5})});
  gradcheck([](auto& in) { return matmul(in[0], in[1]); }, {randn({0, 2}), randn({2, 600})});  // wider than any panel
  const Tensor a = randn({3, 2, 4}), b = randn({3, 4, 5}, DType::f64, 2), y = matmul(a, b);
  for (int i = 0; i < 3; ++i)
    CHECK(max_abs_diff(reshape(narrow(y, 0, i, 1), {2, 5}),
                       matmul(reshape(narrow(a, 0, i, 1), {2, 4}), reshape(narrow(b, 0, i, 1), {4, 5}))) == 0);
}

TEST_CASE("linear: composed twin and gradients") {
  const Tensor x = randn({2, 3, 5}), w = randn({4, 5}, DType::f64, 2), bias = randn({4}, DType::f64, 3),
               residual = randn({2, 3, 4}, DType::f64, 4);
  const Tensor plain = reshape(matmul(reshape(x, {6, 5}), permute(w, {1, 0})), {2, 3, 4});
  CHECK(max_abs_diff(linear(x, w), plain) < 1e-14);
  CHECK(max_abs_diff(linear(x, w, bias), plain + bias) < 1e-14);
  CHECK(max_abs_diff(linear(x, w, {}, residual), plain + residual) < 1e-14);
  CHECK(max_abs_diff(linear(x, w, bias, residual), plain + bias + residual) < 1e-14);
  gradcheck([](auto& in) { return linear(in[0], in[1]); }, {x, w});
  gradcheck([](auto& in) { return linear(in[0], in[1], in[2]); }, {x, w, bias});
  gradcheck([](auto& in) { return linear(in[0], in[1], {}, in[2]); }, {x, w, residual});
  gradcheck([](auto& in) { return linear(in[0], in[1], in[2], in[3]); }, {x, w, bias, residual});
  gradcheck([](auto& in) { return linear(in[0], in[1], in[2]); }, {randn({33, 17}), randn({19, 17}), randn({19})});
  gradcheck([](auto& in) { return linear(in[0], in[1], in[2]); }, {randn({5}), randn({3, 5}), randn({3})});
}

TEST_CASE("linear: of no columns is zeros, or what is added to them") {
  for (const Device device : devices())
    for (const int64_t rows : {0, 1, 3, 40}) {  // by gemv, and by gemm
      CAPTURE(device);
      CAPTURE(rows);
      const Tensor x = zeros({rows, 0}, DType::f32, device), w = zeros({5, 0}, DType::f32, device),
                   bias = to(randn({5}, DType::f32, 3), device), residual = to(randn({rows, 5}, DType::f32, 4), device);
      // Memory that is used again is not 0.
      const Tensor nothing = zeros({rows, 5}, DType::f32, device);
      full({rows, 5}, 7, DType::f32, device);
      CHECK(same_bits(to(linear(x, w), Device::cpu), to(nothing, Device::cpu)));
      full({rows, 5}, 7, DType::f32, device);
      CHECK(max_abs_diff(linear(x, w, bias), nothing + bias) == 0);
      CHECK(max_abs_diff(linear(x, w, {}, residual), residual) == 0);
      CHECK(max_abs_diff(linear(x, w, bias, residual), residual + bias) == 0);
      full({rows, 5}, 7, DType::f32, device);
      CHECK(max_abs_diff(linear(x, zeros({5, 0}, DType::bf16, device)), nothing) == 0);
      CHECK(linear(x, zeros({0, 0}, DType::f32, device)).shape() == Shape{rows, 0});
    }
  gradcheck([](auto& in) { return linear(in[0], in[1], in[2], in[3]); },
            {randn({3, 0}), randn({2, 0}), randn({2}), randn({3, 2})});
  CHECK(max_abs_diff(linear(zeros({0}), zeros({2, 0})), zeros({2})) == 0);
}

TEST_CASE("products: errors") {
  const Tensor a = randn({2, 3}), w = randn({4, 3});
  CHECK(error_of([&] { matmul(a, a); }) == "matmul: b has shape (2, 3), but a of shape (2, 3) asks for (3, 3)");
  CHECK(error_of([&] { matmul(a, randn({3})); }) ==
        "matmul: a has shape (2, 3) and b has shape (3), but both need two dimensions or more");
  CHECK(error_of([&] {
          matmul(randn({4, 2, 2, 3}), randn({4, 3, 2}));
        }) == "matmul: a has shape (4, 2, 2, 3), but b has shape (4, 3, 2), whose leading dimensions do not broadcast");
  CHECK(error_of([&] {
          matmul(a, randn({5, 4, 7}));
        }) == "matmul: b has shape (5, 4, 7), but a of shape (2, 3) asks for (5, 3, 7)");
  CHECK(error_of([&] {
          matmul(randn({5, 2, 3}), a);
        }) == "matmul: b has shape (2, 3), but a of shape (5, 2, 3) asks for (3, 3)");
  CHECK(error_of([&] {
          matmul(zeros({2, 3}, DType::i64), zeros({3, 2}, DType::i64));
        }) == "matmul: a is i64, but the op computes in f32, f64 or bf16");
  CHECK(error_of([&] { matmul(a, randn({3, 3}, DType::f32)); }) == "matmul: a is f64, but b is f32");
  CHECK(error_of([&] {
          linear(a, randn({4, 5}));
        }) == "linear: weight has shape (4, 5), but x of shape (2, 3) asks for [out, 3]");
  CHECK(error_of([&] { linear(a, w, randn({3})); }) ==
        "linear: bias has shape (3), but weight of shape (4, 3) asks for (4)");
  CHECK(error_of([&] {
          linear(a, w, {}, randn({2, 3}));
        }) == "linear: residual has shape (2, 3), but the result has (2, 4)");
  CHECK(error_of([&] { linear(a, randn({4, 3}, DType::f32)); }) == "linear: weight is f32, but x is f64");
}

}  // namespace
}  // namespace rondo::testing
