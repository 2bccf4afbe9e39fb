#include "tensor/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "tensor/allocator.h"
#include "tensor/dispatch.h"
#include "tensor/free_list.h"
#include "tensor/kernels.h"

namespace rondo {

constinit thread_local uint64_t recording_tape = 0;

namespace {

// Identities are never given twice. A thread takes many at once.
uint64_t new_id() {
  constexpr uint64_t kAtOnce = 1024;
  static std::atomic<uint64_t> next = 1;
  thread_local uint64_t id = 0, end = 0;
  if (id == end) id = next.fetch_add(kAtOnce, std::memory_order_relaxed), end = id + kAtOnce;
  return id++;
}

TensorRecord* new_record(const Shape& shape, DType dtype, Buffer* buffer) {
  TensorRecord* r = FreeList<TensorRecord>::take();
  r->id = new_id();
  r->shape = shape;
  r->dtype = dtype;
  r->buffer = buffer;
  return r;
}

// `keep` names the op that keeps the gradient.
void check_untracked(const char* what, const Tensor& t, const char* keep) {
  check(!is_tracked(t), what, ": the tape follows this tensor of shape ", t.shape(), ", whose gradient would be lost; ",
        keep, "detach() it where none is wanted");
}

// Whether an integer dtype has the number.
bool holds(DType dtype, double value) {
  const int bits = 8 * int(size_of(dtype)), own = dtype == DType::u8 ? bits : bits - 1;
  const double end = std::ldexp(1, own);
  return value == std::trunc(value) && value >= (dtype == DType::u8 ? 0 : -end) && value < end;
}

void let_go(Buffer* b) {
  if (b->references.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  deallocate(b->memory);
  FreeList<Buffer>::give(b);
}

}  // namespace

Tensor::Tensor(const Shape& shape, DType dtype, Device device) {
  size_t bytes = size_of(dtype);
  bool counted = shape.is_countable();
  for (int64_t d : shape) counted &= !__builtin_mul_overflow(bytes, size_t(d), &bytes);
  check(counted, "a tensor of shape ", shape, " is larger than any memory");
  const Memory memory = allocate(device, bytes);
  Buffer* b = FreeList<Buffer>::take();
  b->device = device;
  b->memory = memory;
  record_ = new_record(shape, dtype, b);
}

void Tensor::release() {
  if (record_->references.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  let_go(record_->buffer);
  FreeList<TensorRecord>::give(record_);
}

Tensor Tensor::view(const Shape& shape) const {
  check(shape.is_countable(), "view: a tensor of shape ", shape, " is larger than any memory");
  check(shape.numel() == numel(), "view: ", this->shape(), " has ", numel(), " elements, but ", shape, " asks for ",
        shape.numel());
  check_untracked("view", *this, "use reshape, or ");
  return alias(shape);
}

Tensor Tensor::alias(const Shape& shape) const {
  record_->buffer->references.fetch_add(1, std::memory_order_relaxed);
  Tensor t;
  t.record_ = new_record(shape, dtype(), record_->buffer);
  return t;
}

double Tensor::item() const {
  check(numel() == 1, "item: the tensor must hold one number, but has shape ", shape());
  return to(to(detach(*this), Device::cpu), DType::f64).data<double>()[0];
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor host = to(detach(*this), Device::cpu);
  const T* p = host.data<T>();
  return std::vector<T>(p, p + numel());
}

template <class T, DType dtype>
Tensor tensor(const std::vector<T>& values, const Shape& shape, Device device) {
  check(int64_t(values.size()) == shape.numel(), "tensor: ", values.size(), " values were given, but shape ", shape,
        " asks for ", shape.numel());
  Tensor t(shape, dtype);
  if (!values.empty()) std::memcpy(t.bytes(), values.data(), t.n_bytes());
  return to(t, device);
}

template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<bf16> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;
template std::vector<int64_t> Tensor::to_vector() const;
template std::vector<uint8_t> Tensor::to_vector() const;
template std::vector<int8_t> Tensor::to_vector() const;
template Tensor tensor(const std::vector<float>&, const Shape&, Device);
template Tensor tensor(const std::vector<double>&, const Shape&, Device);
template Tensor tensor(const std::vector<bf16>&, const Shape&, Device);
template Tensor tensor(const std::vector<int32_t>&, const Shape&, Device);
template Tensor tensor(const std::vector<int64_t>&, const Shape&, Device);
template Tensor tensor(const std::vector<uint8_t>&, const Shape&, Device);
template Tensor tensor(const std::vector<int8_t>&, const Shape&, Device);

Tensor empty_like(const Tensor& t) { return Tensor(t.shape(), t.dtype(), t.device()); }

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  check(is_float(dtype) || holds(dtype, value), "full: ", value, " is no number of ", dtype);
  Tensor t(shape, dtype, device);
  dispatch(device, [&](auto d) { fill(d, value, t); });
  return t;
}
Tensor zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }
Tensor zeros_like(const Tensor& t) { return zeros(t.shape(), t.dtype(), t.device()); }
Tensor arange(int64_t n, DType dtype, Device device) {
  check(n >= 0, "arange: n is ", n, ", but must be at least 0");
  check(n == 0 || is_float(dtype) || dtype == DType::i64 || holds(dtype, double(n - 1)), "arange: ", n - 1,
        " is no number of ", dtype);
  Tensor t({n}, DType::i64);
  std::iota(t.data<int64_t>(), t.data<int64_t>() + n, 0);
  return to(to(t, dtype), device);
}

Tensor clone(const Tensor& t) {
  check_untracked("clone", t, "");
  Tensor y = empty_like(t);
  dispatch(t.device(), [&](auto d) { copy(d, t, y); });
  return y;
}

Tensor to(const Tensor& t, DType dtype) {
  if (t.dtype() == dtype) return t;
  check_untracked("to", t, "use cast, or ");
  Tensor y(t.shape(), dtype, t.device());
  dispatch(t.device(), [&](auto d) { copy(d, t, y); });
  return y;
}

Tensor to(const Tensor& t, Device device) {
  if (t.device() == device) return t;
  check_untracked("to", t, "");
  Tensor y(t.shape(), t.dtype(), device);
  assign(t, y);
  return y;
}

void assign(const Tensor& from, const Tensor& into) {
  check(from.shape() == into.shape() && from.dtype() == into.dtype(), "assign: from is ", from.dtype(), " ",
        from.shape(), ", but into is ", into.dtype(), " ", into.shape());
  const Device device = into.device();
  if (from.n_bytes() == 0) return;
  if (from.device() == device)
    dispatch(device, [&](auto d) { copy(d, from, into); });
  else if (device == Device::cpu)
    dispatch(from.device(), [&](auto d) { copy_to_host(d, from.bytes(), into.bytes(), from.n_bytes()); });
  else
    dispatch(device, [&](auto d) { copy_from_host(d, from.bytes(), into.bytes(), from.n_bytes()); });
}

Tensor detach(const Tensor& t) { return t.alias(t.shape()); }

Tensor parameter(Tensor t) {
  check(is_float(t.dtype()), "parameter: a tensor of ", t.dtype(), " cannot have a gradient");
  check(t.is_parameter() || t.record()->tape == 0, "parameter: this tensor of shape ", t.shape(),
        " was made by an op that a tape recorded; detach() gives the same numbers as a leaf");
  t.record()->is_parameter = true;
  return t;
}

namespace {

// The first of an axis, and "..." where there are more. Rows of a matrix are lines.
template <class T>
void print(std::ostream& os, const T* numbers, const Shape& shape, int axis) {
  constexpr int64_t kShown = 8;
  if (axis == shape.rank()) {
    os << *numbers;
    return;
  }
  int64_t step = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) step *= shape[i];
  const bool last = axis + 1 == shape.rank();
  const auto between = [&] { last ? os << ", " : os << ",\n" << std::string(size_t(axis) + 1, ' '); };
  os << '{';
  for (int64_t i = 0; i < std::min(shape[axis], kShown); ++i) {
    if (i > 0) between();
    print(os, numbers + i * step, shape, axis + 1);
  }
  if (shape[axis] > kShown) between(), os << "...";
  os << '}';
}

}  // namespace

std::ostream& operator<<(std::ostream& os, const Tensor& t) {
  if (!t) return os << "(no tensor)";
  os << t.dtype() << t.shape() << (t.rank() > 1 ? "\n" : " ");
  const Tensor host = to(detach(t), Device::cpu);
  if (is_float(t.dtype()))
    print(os, to(host, DType::f64).data<double>(), t.shape(), 0);
  else
    print(os, to(host, DType::i64).data<int64_t>(), t.shape(), 0);
  return os;
}

}  // namespace rondo
