// Fused attention against its composed twin, made of l2_normalize, rotary, matmul and softmax: results and all
// gradients.
#include <functional>
#include <span>

#include "autograd/ops.h"
#include "tensor/parallel.h"
#include "tests/runs.h"

namespace rondo::testing {
namespace {

struct Case {
  int64_t batch, n, heads, d, window, memory;
  bool norm, positions;
  double factor = 0;
};

// One (batch, block): queries q [m, H*D] against keys and values [p, D], visible where see(query, key).
Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v, double factor,
                       const std::function<bool(int64_t, int64_t)>& see) {
  const int64_t m = q.dim(0), p = k.dim(0), d = k.dim(1), heads = q.dim(1) / d;
  Tensor mask = zeros({m, p}, q.dtype());
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < p; ++j)
      if (!see(i, j)) mask.data<double>()[i * p + j] = -1e300;
  std::vector<Tensor> outputs;
  for (int64_t h = 0; h < heads; ++h) {
    const Tensor scores =
        scale(matmul(narrow(q, 1, h * d, d), permute(k, {1, 0})), factor ? factor : 1 / std::sqrt(double(d)));
    outputs.push_back(matmul(softmax(scores + mask), v));
  }
  return concat(outputs, 1);
}

// Row i of batch b, as a matrix.
Tensor rows(const Tensor& x, int64_t b, int64_t start, int64_t length) {
  return reshape(narrow(narrow(x, 0, b, 1), 1, start, length), {length, x.dim(2)});
}

Tensor prepared(const Tensor& x, const Tensor& scales, const Tensor& table, Rotate which, int64_t first,
                int64_t window) {
  Tensor y = reshape(x, {1, x.dim(0), x.dim(1)});
  if (scales) y = l2_normalize(y, scales);
  if (table) y = rotary(y, table, which, first, window);
  return reshape(y, {x.dim(0), x.dim(1)});
}

// Block by block: keys of the block before (or the memory) at positions below W, the block's own from W on.
Tensor composed_window(const Case& c, const Tensor& q, const Tensor& kv, const Tensor& memory, const QueryKey& how) {
  std::vector<Tensor> batches;
  for (int64_t b = 0; b < c.batch; ++b) {
    std::vector<Tensor> blocks;
    for (int64_t start = 0; start < c.n; start += c.window) {
      const int64_t m = std::min(c.window, c.n - start);
      const Tensor own = rows(kv, b, start, m);
      Tensor before;
      if (start > 0) before = rows(kv, b, start - c.window, c.window);
      if (start == 0 && memory && memory.dim(1) > 0) before = rows(memory, b, 0, memory.dim(1));
      const int64_t in_front = before ? before.dim(0) : 0;
      const Tensor all = before ? concat({before, own}, 0) : own;
      const Tensor k =
          prepared(narrow(all, 1, 0, c.d), how.k_scale, how.table, Rotate::key, c.window - in_front, 2 * c.window);
      const Tensor queries = prepared(rows(q, b, start, m), how.q_scale, how.table, Rotate::query, c.window, c.window);
      blocks.push_back(plain_attention(queries, k, narrow(all, 1, c.d, c.d), c.factor, [&](int64_t i, int64_t j) {
        const int64_t distance = i + in_front - j;
        return distance >= 0 && distance < c.window;
      }));
    }
    const Tensor y = concat(blocks, 0);
    batches.push_back(reshape(y, {1, y.dim(0), y.dim(1)}));
  }
  return concat(batches, 0);
}

struct Problem {
  Tensor q, kv, memory, q_scale, k_scale, table;
  std::vector<Tensor> inputs() const {
    std::vector<Tensor> all = {q, kv};
    for (const Tensor& t : {memory, q_scale, k_scale})
      if (t) all.push_back(t);
    return all;
  }
  QueryKey how(double factor) const { return {q_scale, k_scale, table, factor}; }
};

Problem problem(const Case& c, DType dtype = DType::f64) {
  Problem p;
  p.q = parameter(randn({c.batch, c.n, c.heads * c.d}, dtype, 1));
  p.kv = parameter(randn({c.batch, c.n, 2 * c.d}, dtype, 2));
  if (c.memory >= 0) p.memory = parameter(randn({c.batch, c.memory, 2 * c.d}, dtype, 3));
  if (c.norm) p.q_scale = parameter(randn({c.d}, dtype, 4)), p.k_scale = parameter(randn({c.d}, dtype, 5));
  if (c.positions) p.table = rotary_table(c.window, c.d, dtype);
  return p;
}

// Gradients of <f(), w> for all inputs.
std::vector<Tensor> gradients(const std::function<Tensor()>& f, const std::vector<Tensor>& inputs) {
  Tape tape;
  const Tensor y = f();
  const Gradients grads = tape.backward(sum(y * randn(y.shape(), y.dtype(), 9)));
  std::vector<Tensor> all;
  for (const Tensor& t : inputs) all.push_back(grads.find(t) ? grads[t] : zeros_like(t));
  return all;
}

TEST_CASE("window_attention: the composed twin, forward and backward") {
  const Case cases[] = {
      {1, 4, 1, 2, 4, -1, false, false},      // one block, no memory
      {2, 12, 3, 4, 4, 4, true, true},        // several blocks, full memory
      {2, 11, 2, 6, 4, 4, true, true},        // a partial last block
      {1, 7, 2, 4, 8, 3, false, true},        // less than a block, a short memory
      {1, 9, 2, 4, 3, 0, true, false},        // an empty memory
      {1, 5, 1, 2, 1, 1, true, true},         // each token sees itself alone
      {3, 6, 5, 2, 3, 2, false, false, 0.7},  // another factor
      {1, 40, 2, 16, 20, 20, true, true, 8},  // wide enough for vectors; sharp
      {1, 300, 1, 4, 150, 150, false, true},  // several tiles and parts of a block
      {1, 290, 3, 4, 260, 100, true, true},   // tiles, parts, partial block, short memory
  };
  for (const Case& c : cases) {
    CAPTURE(c.n);
    CAPTURE(c.window);
    const Problem p = problem(c);
    const auto fused = [&] { return window_attention(p.q, p.kv, p.memory, c.window, p.how(c.factor)); };
    const auto composed = [&] { return composed_window(c, p.q, p.kv, p.memory, p.how(c.factor)); };
    CHECK(max_abs_diff(fused(), composed()) < 1e-13);
    const std::vector<Tensor> a = gradients(fused, p.inputs()), b = gradients(composed, p.inputs());
    for (size_t i = 0; i < a.size(); ++i) CHECK_MESSAGE(max_abs_diff(a[i], b[i]) < 1e-11, "input ", i);
  }
}

TEST_CASE("window_attention: gradients by differences") {
  const Case c = {2, 7, 2, 4, 3, 2, true, true};
  const Problem p = problem(c);
  gradcheck(
      [&](auto& in) {
        return window_attention(in[0], in[1], in[2], 3, {in[3], in[4], to(p.table, in[0].device()), 0});
      },
      p.inputs());
  gradcheck([&](auto& in) { return window_attention(in[0], in[1], {}, 3); }, {p.q, p.kv});
  // Scales that are used twice.
  gradcheck(
      [&](auto& in) {
        const QueryKey how{in[2], in[3], to(p.table, in[0].device()), 0};
        return window_attention(window_attention(in[0], in[1], {}, 3, how), in[1], {}, 3, how);
      },
      {p.q, p.kv, p.inputs()[3], p.inputs()[4]});
}

TEST_CASE("window_attention: a causal mask of comparisons and a softmax of what it leaves") {
  const int64_t n = 7, d = 4;
  const auto composed = [&](const std::vector<Tensor>& in) {
    const Tensor &q = in[0], k = narrow(in[1], 2, 0, d), v = narrow(in[1], 2, d, d), at = arange(n);
    const Tensor seen = to(less_equal(reshape(at, {1, n}), reshape(at, {n, 1})), q.device());
    const Tensor scores = matmul(q, transpose(k)) / std::sqrt(double(d));
    return matmul(softmax(where(seen, scores, -INFINITY)), v);
  };
  const std::vector<Tensor> in = {randn({3, n, d}), randn({3, n, 2 * d}, DType::f64, 2)};
  const std::vector<Tensor> fused = run([&](auto& x) { return window_attention(x[0], x[1], {}, n); }, in);
  for (Device device : devices()) check_close(run(composed, on(device, in)), fused, 1e-12, device);
}

TEST_CASE("window_attention: without queries all gradients are zero") {
  for (const Case& c : {Case{2, 0, 2, 4, 3, 3, true, true}, Case{0, 5, 2, 4, 3, 3, true, true}}) {
    const Problem p = problem(c);
    for (const Device device : devices()) {
      const std::vector<Tensor> all = run(
          [&](auto& in) {
            return window_attention(in[0], in[1], in[2], 3, {in[3], in[4], to(p.table, in[0].device()), 0});
          },
          on(device, p.inputs()));
      for (size_t i = 0; i < all.size(); ++i)
        for (const double v : values(to(all[i], Device::cpu))) CHECK_MESSAGE(v == 0, "result ", i, " on ", device);
    }
  }
}

TEST_CASE("window_attention: one query sees exactly W keys") {
  // With equal scores the result is the mean of the visible values.
  const int64_t W = 4, n = 10;
  const Tensor q = zeros({1, n, 2}, DType::f64), kv = zeros({1, n, 4}, DType::f64),
               memory = zeros({1, W, 4}, DType::f64);
  for (int64_t i = 0; i < n; ++i) kv.data<double>()[i * 4 + 2] = double(i);
  for (int64_t i = 0; i < W; ++i) memory.data<double>()[i * 4 + 2] = double(i - W);
  const std::vector<double> with = values(window_attention(q, kv, memory, W)),
                            without = values(window_attention(q, kv, {}, W));
  for (int64_t i = 0; i < n; ++i) {
    CHECK(with[size_t(i) * 2] == doctest::Approx(double(i) - 1.5));
    CHECK(without[size_t(i) * 2] == doctest::Approx(i >= 3 ? double(i) - 1.5 : double(i) / 2));
  }
}

TEST_CASE("attention: a window or group that is longer than all there is") {
  const int64_t longest = int64_t{1} << 40;
  const std::vector<Tensor> in = {randn({2, 7, 8}), randn({2, 7, 8}, DType::f64, 2), randn({2, 3, 8}, DType::f64, 3),
                                  randn({2, 1, 5, 8}, DType::f64, 4)};
  const auto windows = [](int64_t n, int64_t with_memory) {
    return [=](const std::vector<Tensor>& x) {
      return concat({window_attention(x[0], x[1], {}, n), window_attention(x[0], x[1], x[2], with_memory),
                     group_attention(x[0], x[3], n)},
                    1);
    };
  };
  const std::vector<Tensor> expected = run(windows(7, 10), in);
  for (const Device device : devices())
    check_close(run(windows(longest, longest), on(device, in)), expected, 1e-12, device);
  const auto with_positions = [](int64_t n) {
    return [=](const std::vector<Tensor>& x) {
      return window_attention(x[0], x[1], x[2], n,
                              {Tensor(), Tensor(), rotary_table(n, 4, x[0].dtype(), x[0].device()), 0});
    };
  };
  const std::vector<Tensor> near = run(with_positions(10), in);
  for (const Device device : devices()) check_close(run(with_positions(1000), on(device, in)), near, 1e-11, device);
  // A memory's first row is seen by all queries: one row less is another result.
  CHECK(max_abs_diff(run(windows(7, 9), in)[0], expected[0]) > 1e-3);
}

TEST_CASE("window_attention: extreme scores stay finite") {
  const Tensor q = full({1, 6, 4}, 1e4, DType::f32), kv = randn({1, 6, 4}, DType::f32);
  for (float& x : std::span(kv.data<float>(), 24)) x *= 1e4f;
  const Tensor p = parameter(q);
  Tape tape;
  const Tensor y = window_attention(p, kv, {}, 3);
  for (double v : values(y)) CHECK(std::isfinite(v));
  const Gradients grads = tape.backward(sum(y));
  for (double v : values(grads[p])) CHECK(std::isfinite(v));
}

// The groups, each as a sequence of its own.
Tensor composed_groups(const Tensor& q, const Tensor& kv, int64_t width, const QueryKey& how) {
  std::vector<Tensor> batches;
  const int64_t S = kv.dim(2), d = kv.dim(3) / 2;
  for (int64_t b = 0; b < q.dim(0); ++b) {
    std::vector<Tensor> groups;
    for (int64_t g = 0; g < kv.dim(1); ++g) {
      const Tensor pairs = reshape(narrow(narrow(kv, 0, b, 1), 1, g, 1), {S, 2 * d});
      const Tensor k = prepared(narrow(pairs, 1, 0, d), how.k_scale, {}, Rotate::key, 0, 1);
      const Tensor queries =
          prepared(rows(q, b, g * width, std::min(width, q.dim(1) - g * width)), how.q_scale, {}, Rotate::query, 0, 1);
      groups.push_back(
          plain_attention(queries, k, narrow(pairs, 1, d, d), how.factor, [](int64_t, int64_t) { return true; }));
    }
    const Tensor y = concat(groups, 0);
    batches.push_back(reshape(y, {1, y.dim(0), y.dim(1)}));
  }
  return concat(batches, 0);
}

TEST_CASE("group_attention: the composed twin, forward and backward") {
  struct {
    int64_t batch, n, heads, d, width, keys;
    bool norm;
  } cases[] = {{1, 1, 1, 2, 1, 1, false},
               {2, 7, 3, 4, 3, 5, true},
               {1, 8, 2, 16, 4, 33, true},
               {3, 5, 1, 6, 9, 1, true},
               {1, 300, 1, 4, 280, 140, true}};
  for (const auto& c : cases) {
    CAPTURE(c.n);
    const Tensor q = parameter(randn({c.batch, c.n, c.heads * c.d}));
    const Tensor kv = parameter(randn({c.batch, (c.n + c.width - 1) / c.width, c.keys, 2 * c.d}, DType::f64, 2));
    QueryKey how;
    if (c.norm)
      how.q_scale = parameter(randn({c.d}, DType::f64, 3)), how.k_scale = parameter(randn({c.d}, DType::f64, 4));
    const auto fused = [&] { return group_attention(q, kv, c.width, how); };
    const auto composed = [&] { return composed_groups(q, kv, c.width, how); };
    CHECK(max_abs_diff(fused(), composed()) < 1e-13);
    std::vector<Tensor> inputs = {q, kv};
    if (c.norm) inputs.push_back(how.q_scale), inputs.push_back(how.k_scale);
    const std::vector<Tensor> a = gradients(fused, inputs), b = gradients(composed, inputs);
    for (size_t i = 0; i < a.size(); ++i) CHECK_MESSAGE(max_abs_diff(a[i], b[i]) < 1e-11, "input ", i);
  }
}

TEST_CASE("attention: the same bits for any number of threads") {
  const Problem p = problem({2, 300, 3, 8, 130, 130, true, true}, DType::f32);
  check_same_bits_on_threads(
      [&](auto& in) {
        return window_attention(in[0], in[1], in[2], 130, {in[3], in[4], p.table, 0});
      },
      p.inputs());
}

TEST_CASE("attention: errors") {
  const Tensor q = randn({1, 6, 8}), kv = randn({1, 6, 8});
  {
    Tape tape;
    const Tensor table = parameter(rotary_table(3, 4, DType::f64));
    CHECK(error_of([&] {
            window_attention(q, kv, {}, 3, {{}, {}, table, 0});
          }) == "window_attention: has no backward rule, but its input of shape (2, 6, 4) is tracked; use detach()");
  }
  CHECK(error_of([&] { window_attention(q, kv, {}, 0); }) ==
        "window_attention: the window must be at least 1 and at most 1099511627776, not 0");
  CHECK(error_of([&] { window_attention(q, kv, {}, INT64_MAX); }) ==
        "window_attention: the window must be at least 1 and at most 1099511627776, not 9223372036854775807");
  CHECK(error_of([&] { group_attention(q, kv, INT64_MAX); }) ==
        "group_attention: the width of a group must be at least 1 and at most 1099511627776, not 9223372036854775807");
  CHECK(error_of([&] {
          window_attention(q, randn({1, 5, 8}), {}, 3);
        }) ==
        "window_attention: kv has shape (1, 5, 8), but q of shape (1, 6, 8) asks for one (key, value) per query: "
        "[batch, tokens, 2 * head width]");
  CHECK(error_of([&] {
          window_attention(q, randn({1, 6, 6}), {}, 3);
        }) ==
        "window_attention: kv of shape (1, 6, 6) holds keys and values of 6 / 2 columns, but q has shape (1, 6, 8)");
  CHECK(error_of([&] {
          window_attention(q, kv, randn({1, 4, 8}), 3);
        }) ==
        "window_attention: memory has shape (1, 4, 8), but kv of shape (1, 6, 8) asks for at most 3 rows of the same "
        "batch and width");
  CHECK(error_of([&] {
          window_attention(q, kv, {}, 3, {randn({4}), {}, {}, 0});
        }) == "window_attention: q_scale and k_scale must be given both or not at all");
  CHECK(error_of([&] {
          window_attention(q, kv, {}, 3, {randn({3}), randn({4}), {}, 0});
        }) == "window_attention: a scale has shape (3), but the head width is 4");
  CHECK(error_of([&] {
          window_attention(q, kv, {}, 3, {{}, {}, rotary_table(2, 4, DType::f64), 0});
        }) ==
        "window_attention: the table has shape (2, 4, 4), but window 3 and kv of shape (1, 6, 8) ask for (2, 6, 4)");
  CHECK(error_of([&] {
          window_attention(q, randn({1, 6, 8}, DType::f32), {}, 3);
        }) == "window_attention: kv is f32, but q is f64");
  CHECK(error_of([&] {
          group_attention(q, randn({1, 1, 5, 8}), 4);
        }) ==
        "group_attention: kv has shape (1, 1, 5, 8), but q of shape (1, 6, 8) in groups of 4 asks for [batch, groups, "
        "keys, 2 * head width] with 2 groups");
  CHECK(error_of([&] {
          group_attention(q, randn({1, 2, 5, 8}), 3, {{}, {}, rotary_table(3, 4, DType::f64), 0});
        }) == "group_attention: positions are for window_attention; the table must be empty");
}

}  // namespace
}  // namespace rondo::testing
