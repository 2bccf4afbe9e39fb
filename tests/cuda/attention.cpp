// Attention on CUDA: windows with and without memory, groups, and sizes that fit no tile.
#include "tests/cuda/compare.h"

namespace rondo::testing {
namespace {

struct Case {
  int64_t batch, n, heads, d, width;
  int64_t memory = 0, keys = 0;  // of a window; of a group, 0 for windows
  bool norm = false, table = false;
  double size = 1;     // of the queries and keys, 1 / sqrt(d) being the factor
  int64_t longer = 0;  // the table's window, beyond the width of the one block there is
};

// q, kv, memory, q_scale, k_scale, table, dy: what the kernels are given. Tensors the case lacks are empty.
List inputs(const Case& c, DType dtype) {
  const int64_t blocks = (c.n + c.width - 1) / c.width;
  const auto where = [&](bool there, const Shape& shape, DType d, uint64_t seed) {
    return there ? randn(shape, d, seed) : Tensor();
  };
  const auto sized = [&](const Shape& shape, uint64_t seed) {
    const Tensor t = randn(shape, dtype_beside(dtype), seed);
    scale_into(Cpu{}, c.size, t);
    return to(t, dtype);
  };
  const Tensor q = sized({c.batch, c.n, c.heads * c.d}, 1);
  return {q,
          sized(c.keys ? Shape{c.batch, blocks, c.keys, 2 * c.d} : Shape{c.batch, c.n, 2 * c.d}, 2),
          where(c.memory, {c.batch, c.memory, 2 * c.d}, dtype, 3),
          where(c.norm, {c.d}, dtype_beside(dtype), 4),
          where(c.norm, {c.d}, dtype_beside(dtype), 5),
          where(c.table, {2, 2 * (c.width + c.longer), c.d}, dtype_beside(dtype), 6),
          randn(q.shape(), dtype, 7)};
}

AttentionShape shape_of(const Case& c) {
  return {c.batch, c.n, c.heads, c.d, c.width, c.memory, c.keys, c.keys == 0, 1 / std::sqrt(double(c.d))};
}

// Results: y, lse, dq, dkv, dmemory, dq_scale, dk_scale.
void check_attention(const char* what, const Case& c,
                     std::vector<DType> dtypes = {DType::f32, DType::f64, DType::bf16}) {
  for (DType dtype : dtypes) {
    const List in = inputs(c, dtype);
    const Tensor none({0}, dtype);
    const auto like_input = [&](int i) { return in[i] ? in[i] : none; };
    const List results = {
        in[0],        like({c.batch, c.n, c.heads}, dtype_beside(dtype)), in[0], in[1], like_input(2), like_input(3),
        like_input(4)};
    check_same(what, in, results, 4 * tolerance_of(dtype), [&](auto device, const List& in, const List& out) {
      const AttentionInputs given = {in[0], in[1], in[2], in[3], in[4], in[5]};
      const Tensor dmemory = in[2] ? out[4] : Tensor(), dq_scale = in[3] ? out[5] : Tensor(),
                   dk_scale = in[4] ? out[6] : Tensor();
      AttentionForward forward = {out[0], out[1]};
      attention_forward(device, shape_of(c), given, forward);
      attention_backward(device, shape_of(c), given, in[6], forward, {out[2], out[3], dmemory, dq_scale, dk_scale});
      if (c.n < 40 && c.norm)
        attention_backward(device, shape_of(c), given, in[6], forward,
                           {out[2], out[3], dmemory, {dq_scale, true}, {dk_scale, true}});
    });
  }
}

}  // namespace

// In bf16 heads of 16, 32, ... 128 numbers are multiplied by tensor cores, the others in f32.
TEST_CASE("cuda attention: widths of heads") {
  for (const int64_t d : {8, 16, 24, 32, 40, 48, 64, 72, 80, 128, 136, 144, 12})
    check_attention("a width", {1, 21, 8, d, 16, 9, 0, true, true});
}

TEST_CASE("cuda attention: more rows and keys than a tile has") {
  check_attention("rows that see nothing of the first keys", {1, 200, 1, 16, 200, 40});
  check_attention("an odd number of heads", {1, 150, 3, 32, 100, 100, 0, true, true});
  check_attention("many heads", {1, 40, 33, 16, 20, 20});
  // Flash attention alone shares queries out.
  check_attention("so many blocks that none is shared out", {260, 2, 2, 16, 2, 1}, {DType::bf16});
  check_attention("shares with few queries", {1, 7, 2, 16, 5, 5});
  check_attention("a last tile of one key", {1, 129, 1, 64, 129, 0});
  check_attention("groups of a tile and one key", {2, 70, 4, 32, 33, 0, 65, true});
  check_attention("queries that miss the last key of a tile alone", {1, 94, 1, 16, 94, 94});
  check_attention("the same for tiles of 128 keys", {1, 222, 1, 16, 222, 222});
  check_attention("many keys, few queries", {1, 3, 8, 64, 3, 0, 300});
  for (const int64_t keys : {80, 81})  // 16 that are left are multiplied alone
    check_attention("a tile and a few keys", {1, 3, 8, 16, 3, 0, keys});
}

TEST_CASE("cuda attention: windows") {
  check_attention("one token", {1, 1, 1, 1, 1});
  check_attention("window 1", {2, 5, 3, 7, 1, 1, 0, true});
  check_attention("no memory", {2, 9, 3, 16, 4, 0, 0, false, true});
  check_attention("memory, whole blocks", {1, 12, 1, 16, 4, 4, 0, true, true});
  check_attention("part of a memory", {2, 7, 3, 6, 5, 2, 0, true, true});
  check_attention("fewer tokens than a window", {2, 3, 8, 4, 16, 16});
  check_attention("a table of a longer window", {2, 5, 3, 6, 8, 3, 0, true, true, 1, 9});
  check_attention("several tiles of keys", {1, 150, 1, 4, 100, 33, 0, true, true});
  check_attention("several tiles of queries", {1, 45, 3, 2, 40, 40, 0, false, true});
  check_attention("tiles that part a query's heads", {1, 20, 10, 2, 16, 16});
  check_attention("64 wide", {1, 20, 8, 64, 16, 16, 0, true, true});
  check_attention("66 wide", {1, 7, 3, 66, 5, 2, 0, true, true});
  check_attention("128 wide", {1, 70, 1, 128, 68, 1, 0, true, true});
}

TEST_CASE("cuda attention: groups") {
  check_attention("one key", {2, 5, 3, 7, 3, 0, 1, true});
  check_attention("a tile of keys", {1, 4, 1, 3, 2, 0, 64});
  check_attention("several tiles", {2, 30, 3, 5, 24, 0, 130, true});
  check_attention("129 wide", {1, 5, 8, 129, 3, 0, 70, true});
}

TEST_CASE("cuda attention: extremes") {
  check_attention("large scores", {1, 100, 1, 16, 80, 80, 0, false, false, 10});
  check_attention("zeros", {1, 9, 2, 16, 4, 4, 0, true, true, 0});
  check_attention("heads below the smallest norm", {1, 9, 2, 16, 4, 4, 0, true, true, 2e-13});
}

}  // namespace rondo::testing
