// Ops that only move elements; they take any dtype.
#include <array>
#include <numeric>
#include <string>

#include "autograd/arguments.h"
#include "autograd/broadcast.h"
#include "autograd/ops.h"

namespace rondo {
namespace {

// Copies `part` to where it lies in `whole`, from index `start` of the axis on, or from there, or adds it there.
enum class Slice { copy_in, copy_out, add_in };
void copy_slice(const Tensor& part, const Tensor& whole, int axis, int64_t start, Slice how) {
  const Lines at = Lines::along(whole.shape(), axis);
  const int64_t width = part.dim(axis) * at.inner;
  const Rows of_part{0, width}, of_whole{start * at.inner, at.n * at.inner};
  dispatch(whole.device(), [&](auto device) {
    if (how == Slice::copy_in) copy_rows(device, part, of_part, whole, of_whole, at.outer, width);
    if (how == Slice::copy_out) copy_rows(device, whole, of_whole, part, of_part, at.outer, width);
    if (how == Slice::add_in) add_rows(device, part, of_part, whole, of_whole, at.outer, width);
  });
}

Tensor slice(const Tensor& x, int axis, int64_t start, int64_t length) {
  Tensor y(x.shape().with(axis, length), x.dtype(), x.device());
  copy_slice(y, x, axis, start, Slice::copy_out);
  return y;
}

// axes are the dimensions 0..rank-1 in any order.
Tensor permuted(const Tensor& x, const Shape& axes) {
  Shape shape, strides;
  for (int64_t a : axes) {
    shape.push_back(x.dim(int(a)));
    strides.push_back(Lines::along(x.shape(), int(a)).inner);
  }
  Tensor y(shape, x.dtype(), x.device());
  dispatch(x.device(), [&](auto device) { copy_strided(device, x, strides, y); });
  return y;
}

template <class List>
struct Listed {
  const List& list;
  friend std::ostream& operator<<(std::ostream& os, const Listed& l) {
    os << '{';
    for (auto i = l.list.begin(); i != l.list.end(); ++i) os << (i == l.list.begin() ? "" : ", ") << *i;
    return os << '}';
  }
};
template <class List>
Listed(const List&) -> Listed<List>;

void check_parts(std::span<const Tensor> parts, int axis) {
  const Tensor& first = parts[0];
  for (size_t k = 1; k < parts.size(); ++k) {
    const std::string name = "parts[" + std::to_string(k) + "]";
    check_alike("concat", name.c_str(), parts[k], "parts[0]", first);
    bool fits = parts[k].rank() == first.rank();
    for (int i = 0; fits && i < first.rank(); ++i) fits = i == axis || parts[k].dim(i) == first.dim(i);
    check(fits, "concat: ", name, " has shape ", parts[k].shape(), ", but parts[0] has shape ", first.shape(),
          ", and they may differ along axis ", axis, " only");
  }
}

Tensor joined(std::span<const Tensor> parts, int axis) {
  struct Part {
    int64_t length = 0;
    bool wanted = false;
  };
  std::array<Part, kMaxInputs> kept;
  int64_t length = 0;
  for (size_t k = 0; k < parts.size(); ++k) {
    kept[k] = {parts[k].dim(axis), is_tracked(parts[k])};
    check(!__builtin_add_overflow(length, kept[k].length, &length), "concat: the parts are longer than any tensor");
  }
  Tensor y(parts[0].shape().with(axis, length), parts[0].dtype(), parts[0].device());
  int64_t start = 0;
  for (const Tensor& p : parts) {
    copy_slice(p, y, axis, start, Slice::copy_in);
    start += p.dim(axis);
  }
  return record("concat", Inputs(parts), y, [kept, axis, n = parts.size()](const Tensor& dy) {
    Grads grads{};
    int64_t at = 0;
    for (size_t k = 0; k < n; at += kept[k++].length)
      grads.push_back(kept[k].wanted ? slice(dy, axis, at, kept[k].length) : Tensor());
    return grads;
  });
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  check(bool(x), "reshape: x is missing");
  check(shape.is_countable(), "reshape: a tensor of shape ", shape, " is larger than any memory");
  check(shape.numel() == x.numel(), "reshape: x has shape ", x.shape(), " with ", x.numel(), " elements, but shape is ",
        shape, " with ", shape.numel());
  return record("reshape", {x}, detach(x).view(shape),
                [from = x.shape()](const Tensor& dy) -> Grads { return {dy.view(from)}; });
}

Tensor reshape(const Tensor& x, std::initializer_list<int64_t> given) {
  check(bool(x), "reshape: x is missing");
  Shape shape;
  int left = -1;  // the dimension that is what is left
  for (const int64_t n : given) {
    check(n >= -1 && (n != -1 || left < 0), "reshape: shape is ", Listed{given},
          ", but dimensions are 0 or more, and one may be -1");
    if (n == -1) left = shape.rank();
    shape.push_back(n == -1 ? 1 : n);
  }
  check(shape.is_countable(), "reshape: a tensor of shape ", Listed{given}, " is larger than any memory");
  if (left >= 0) {
    const int64_t others = shape.numel();
    check(others > 0, "reshape: shape is ", Listed{given}, ", but -1 could be anything beside a 0");
    check(x.numel() % others == 0, "reshape: x has shape ", x.shape(), " with ", x.numel(), " elements, but shape is ",
          Listed{given}, ", and ", others, " does not divide that");
    shape[left] = x.numel() / others;
  }
  return reshape(x, shape);
}

Tensor permute(const Tensor& x, const std::vector<int>& axes) {
  check(bool(x), "permute: x is missing");
  check(int(axes.size()) == x.rank(), "permute: x has shape ", x.shape(), ", but axes are ", Listed{axes});
  Shape forward, back = x.shape();
  bool used[Shape::kMaxRank] = {};
  for (int i = 0; i < x.rank(); ++i) {
    const int a = axis_of("permute", ("axes[" + std::to_string(i) + "]").c_str(), axes[size_t(i)], "x", x);
    check(!used[a], "permute: axes are ", Listed{axes}, ", but each axis of x ", x.shape(), " may be named once");
    used[a] = true;
    forward.push_back(a);
    back[a] = i;
  }
  return record("permute", {x}, permuted(x, forward),
                [back](const Tensor& dy) -> Grads { return {permuted(dy, back)}; });
}

Tensor transpose(const Tensor& x, int a, int b) {
  check(bool(x), "transpose: x is missing");
  std::vector<int> axes(size_t(x.rank()));
  std::iota(axes.begin(), axes.end(), 0);
  std::swap(axes[size_t(axis_of("transpose", "a", a, "x", x))], axes[size_t(axis_of("transpose", "b", b, "x", x))]);
  return permute(x, axes);
}

Tensor narrow(const Tensor& x, int axis, int64_t start, int64_t length) {
  check(bool(x), "narrow: x is missing");
  const int a = axis_of("narrow", "axis", axis, "x", x);
  check(start >= 0 && length >= 0 && length <= x.dim(a) - start, "narrow: axis ", axis, " of x ", x.shape(), " has ",
        x.dim(a), " elements, but ", length, " from ", start, " on were asked for");
  const auto rule = [from = x.shape(), a, start](const Tensor& dy, SoFar& so_far) -> Grads {
    Tensor dx = so_far.take(0);
    const bool adds = bool(dx);
    if (!adds) dx = zeros(from, dy.dtype(), dy.device());
    copy_slice(dy, dx, a, start, adds ? Slice::add_in : Slice::copy_in);
    return {dx};
  };
  return record("narrow", {x}, slice(x, a, start, length), rule);
}

// An op has at most kMaxInputs inputs: more parts are joined in groups, and these again.
Tensor concat(std::span<const Tensor> parts, int axis) {
  check(!parts.empty(), "concat: there are no parts, but at least one is needed");
  check(bool(parts[0]), "concat: parts[0] is missing");
  const int a = axis_of("concat", "axis", axis, "parts[0]", parts[0]);
  check_parts(parts, a);
  if (parts.size() <= kMaxInputs) return joined(parts, a);
  Tensors groups;
  for (size_t k = 0; k < parts.size(); k += kMaxInputs)
    groups.push_back(joined(parts.subspan(k, std::min<size_t>(kMaxInputs, parts.size() - k)), a));
  return concat(groups, a);
}

Tensor stack(std::span<const Tensor> parts, int axis) {
  check(!parts.empty(), "stack: there are no parts, but at least one is needed");
  check(bool(parts[0]), "stack: parts[0] is missing");
  const Shape& first = parts[0].shape();
  check(first.rank() < Shape::kMaxRank, "stack: parts[0] has shape ", first, ", and there is no room for another axis");
  check(axis >= -first.rank() - 1 && axis <= first.rank(), "stack: axis is ", axis, ", but parts[0] has shape ", first);
  const int a = axis < 0 ? axis + first.rank() + 1 : axis;
  Shape shape;
  for (int i = 0; i <= first.rank(); ++i) shape.push_back(i == a ? 1 : first[i < a ? i : i - 1]);
  Tensors rows;
  for (size_t k = 0; k < parts.size(); ++k) {
    const std::string name = "parts[" + std::to_string(k) + "]";
    check_alike("stack", name.c_str(), parts[k], "parts[0]", parts[0]);
    check(parts[k].shape() == first, "stack: ", name, " has shape ", parts[k].shape(), ", but parts[0] has shape ",
          first);
    rows.push_back(reshape(parts[k], shape));
  }
  return concat(rows, a);
}

Tensors split(const Tensor& x, int64_t n, int axis) {
  check(bool(x), "split: x is missing");
  const int a = axis_of("split", "axis", axis, "x", x);
  check(n > 0 && x.dim(a) % n == 0, "split: axis ", axis, " of x ", x.shape(), " has ", x.dim(a),
        " elements, which do not make ", n, " equal parts");
  Tensors parts;
  for (int64_t i = 0, length = x.dim(a) / n; i < n; ++i) parts.push_back(narrow(x, a, i * length, length));
  return parts;
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  check(bool(x), "broadcast_to: x is missing");
  check(broadcasts(x.shape(), shape), "broadcast_to: x has shape ", x.shape(), ", which does not broadcast to ", shape);
  return record("broadcast_to", {x}, repeated_to(x, shape),
                [from = x.shape()](const Tensor& dy) -> Grads { return {summed_to(dy, from)}; });
}

}  // namespace rondo
