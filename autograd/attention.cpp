// Multi-query attention over a sliding window or over groups of keys, with the queries' and keys' norm and rotation
// fused in.
#include <algorithm>
#include <cmath>

#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

constexpr int64_t kWidest = int64_t{1} << 40;  // so that sums of positions do not overflow

void check_inputs(const char* op, const Tensor& q, const Tensor& kv, const QueryKey& how) {
  check(q.rank() == 3, op, ": q has shape ", q.shape(), ", but must be [batch, tokens, heads * head width]");
  const int64_t width = kv.dim(-1) / 2;
  check(kv.dim(-1) % 2 == 0 && width > 0 && q.dim(2) % width == 0, op, ": kv of shape ", kv.shape(),
        " holds keys and values of ", kv.dim(-1), " / 2 columns, but q has shape ", q.shape());
  check(bool(how.q_scale) == bool(how.k_scale), op, ": q_scale and k_scale must be given both or not at all");
  for (const Tensor& scale : {how.q_scale, how.k_scale})
    check(!scale || scale.shape() == Shape{width}, op, ": a scale has shape ", scale ? scale.shape() : Shape{},
          ", but the head width is ", width);
  check_activation(op, "q", q);
  check_alike(op, "kv", kv, "q", q);
  if (how.q_scale) check_beside(op, "q_scale", how.q_scale, "q", q), check_beside(op, "k_scale", how.k_scale, "q", q);
  if (how.table) check_beside(op, "the table", how.table, "q", q), no_gradient(op, how.table);
}

// `how` is complete but for what follows from the inputs.
Tensor attend(const char* op, AttentionShape how, const Tensor& q, const Tensor& kv, const Tensor& memory,
              const QueryKey& qk) {
  how.batch = q.dim(0), how.n = q.dim(1), how.head_width = kv.dim(-1) / 2;
  how.heads = q.dim(2) / how.head_width;
  how.factor = qk.factor ? qk.factor : 1 / std::sqrt(double(how.head_width));
  AttentionForward forward = {empty_like(q),
                              Tensor({how.batch, how.n, how.heads}, dtype_beside(q.dtype()), q.device())};
  if (q.numel() > 0)
    dispatch(q.device(), [&](auto device) {
      attention_forward(device, how, {q, kv, memory, qk.q_scale, qk.k_scale, qk.table}, forward);
    });
  return record(op, {q, kv, memory, qk.q_scale, qk.k_scale}, forward.y, [=](const Tensor& dy, SoFar& so_far) -> Grads {
    const auto like = [](const Tensor& t) { return t ? empty_like(t) : Tensor(); };
    Tensor dq = like(q), dkv = like(kv), dmemory = like(memory);
    const Into dq_scale = so_far.into(3, qk.q_scale), dk_scale = so_far.into(4, qk.k_scale);
    dispatch(q.device(), [&](auto device) {
      if (q.numel() > 0)
        return attention_backward(device, how, {q, kv, memory, qk.q_scale, qk.k_scale, qk.table}, dy, forward,
                                  {dq, dkv, dmemory, dq_scale, dk_scale});
      for (const Tensor& t : {dq, dkv, dmemory})  // without queries nothing depends on them
        if (t) fill(device, 0, t);
      for (const Into& scale : {dq_scale, dk_scale})
        if (scale && !scale.adds) fill(device, 0, scale.tensor);
    });
    return {dq, dkv, dmemory, dq_scale.tensor, dk_scale.tensor};
  });
}

}  // namespace

Tensor window_attention(const Tensor& q, const Tensor& kv, const Tensor& memory, int64_t window, const QueryKey& how) {
  constexpr const char* op = "window_attention";
  check(window >= 1 && window <= kWidest, op, ": the window must be at least 1 and at most ", kWidest, ", not ",
        window);
  check(kv.rank() == 3 && q.rank() == 3 && kv.dim(0) == q.dim(0) && kv.dim(1) == q.dim(1), op, ": kv has shape ",
        kv.shape(), ", but q of shape ", q.shape(),
        " asks for one (key, value) per query: [batch, tokens, 2 * head width]");
  check_inputs(op, q, kv, how);
  if (memory) {
    check(memory.rank() == 3 && memory.dim(0) == kv.dim(0) && memory.dim(2) == kv.dim(2) && memory.dim(1) <= window, op,
          ": memory has shape ", memory.shape(), ", but kv of shape ", kv.shape(), " asks for at most ", window,
          " rows of the same batch and width");
    check_alike(op, "memory", memory, "q", q);
  }
  const Shape table = {2, 2 * window, kv.dim(2) / 2};
  check(!how.table || how.table.shape() == table, op, ": the table has shape ", how.table ? how.table.shape() : Shape{},
        ", but window ", window, " and kv of shape ", kv.shape(), " ask for ", table);
  AttentionShape shape{};
  shape.window = true, shape.memory = memory ? memory.dim(1) : 0;
  shape.width = std::min(window, std::max<int64_t>(1, shape.memory + q.dim(1)));  // a longer one sees no more
  return attend(op, shape, q, kv, memory, how);
}

Tensor group_attention(const Tensor& q, const Tensor& kv, int64_t width, const QueryKey& how) {
  constexpr const char* op = "group_attention";
  check(width >= 1 && width <= kWidest, op, ": the width of a group must be at least 1 and at most ", kWidest, ", not ",
        width);
  check(q.rank() == 3 && kv.rank() == 4 && kv.dim(0) == q.dim(0) && kv.dim(1) == (q.dim(1) + width - 1) / width &&
            kv.dim(2) > 0,
        op, ": kv has shape ", kv.shape(), ", but q of shape ", q.shape(), " in groups of ", width,
        " asks for [batch, groups, keys, 2 * head width] with ", q.rank() == 3 ? (q.dim(1) + width - 1) / width : 0,
        " groups");
  check_inputs(op, q, kv, how);
  check(!how.table, op, ": positions are for window_attention; the table must be empty");
  AttentionShape shape{};
  shape.width = std::min(width, std::max<int64_t>(1, q.dim(1))), shape.keys = kv.dim(2);
  return attend(op, shape, q, kv, {}, how);
}

}  // namespace rondo
