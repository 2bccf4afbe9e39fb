// Tensor: a handle to a shared buffer with a shape, a dtype and a device. Always contiguous, row-major.
// Ops never write into their inputs; only optimizer steps and initialisers do (through data()).
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "allocator.h"
#include "check.h"
#include "device.h"
#include "dtype.h"
#include "shape.h"

namespace rondo {

// A block of memory, shared by the tensors that view it (reshape, detach).
struct Buffer {
  std::atomic<uint32_t> references = 1;
  Device device = Device::cpu;
  Memory memory;
};

// What a Tensor points to. `tape` and `slot` say where the tape that made this tensor keeps its gradient (see
// autograd/tape.h).
struct TensorRecord {
  std::atomic<uint32_t> references = 1;
  DType dtype = DType::f32;
  bool is_parameter = false;
  int32_t slot = -1;
  uint64_t tape = 0;
  uint64_t id = 0;
  Shape shape;
  Buffer* buffer = nullptr;
};

class Tensor {
 public:
  Tensor() = default;
  // Uninitialised memory.
  explicit Tensor(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu);
  ~Tensor() {
    if (record_) release();
  }
  Tensor(const Tensor& t) : record_(t.record_) {
    if (record_) record_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& t) noexcept : record_(std::exchange(t.record_, nullptr)) {}
  Tensor& operator=(Tensor t) noexcept {
    std::swap(record_, t.record_);
    return *this;
  }

  // Whether there is a tensor at all; optional arguments of ops are empty Tensors.
  explicit operator bool() const { return record_ != nullptr; }

  const Shape& shape() const& { return there().shape; }
  Shape shape() const&& { return there().shape; }  // of a Tensor that ends here
  int rank() const { return shape().rank(); }
  int64_t dim(int axis) const { return shape()[axis]; }
  int64_t numel() const { return shape().numel(); }
  DType dtype() const { return there().dtype; }
  Device device() const { return there().buffer->device; }
  uint64_t id() const { return there().id; }
  bool is_parameter() const { return there().is_parameter; }

  // The elements of a tensor in the host's memory. T must be the C++ type of dtype().
  template <class T>
  T* data() const {
    check(device() == Device::cpu, "data: the tensor ", shape(), " is on ", device(),
          "; to(tensor, Device::cpu) gives a copy to read");
    check(dtype_of<T> == dtype(), "data: asked for ", dtype_of<T>, ", but the tensor ", shape(), " is ", dtype());
    return static_cast<T*>(record_->buffer->memory.data);
  }
  // Where the elements lie, in the memory of device().
  void* bytes() const { return there().buffer->memory.data; }
  size_t n_bytes() const { return size_t(numel()) * size_of(dtype()); }

  // Whether nobody else holds the buffer, so that its owner may write into it.
  bool owned_alone() const { return record_->references == 1 && record_->buffer->references == 1; }

  // The only element, as double.
  double item() const;
  // All elements, copied to the host.
  template <class T>
  std::vector<T> to_vector() const;

  // A tensor of the same elements under another shape. Shares the buffer; without a gradient (the op is reshape).
  Tensor view(const Shape& shape) const;

  TensorRecord* record() const { return record_; }

 private:
  friend Tensor detach(const Tensor& t);
  const TensorRecord& there() const {
    check(record_ != nullptr, "an empty Tensor was used, which has no shape and no elements");
    return *record_;
  }
  Tensor alias(const Shape& shape) const;
  void release();
  TensorRecord* record_ = nullptr;
};

// Where a kernel puts a result: there, or added to what is there.
struct Into {
  Tensor tensor;
  bool adds;
  Into(Tensor to, bool add = false) : tensor(std::move(to)), adds(add) {}
  explicit operator bool() const { return bool(tensor); }
};

Tensor empty_like(const Tensor& t);
Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu);
Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = Device::cpu);
Tensor zeros_like(const Tensor& t);
// 0, 1, ..., n - 1, rounded where a float dtype does not have them.
Tensor arange(int64_t n, DType dtype = DType::i64, Device device = Device::cpu);

// A tensor with the given elements, row by row; T is the C++ type of a dtype.
template <class T, DType = dtype_of<T>>
Tensor tensor(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu);

// Copies have no gradient, so these throw where the thread's tape follows t: the op is cast, or detach(t) says that
// none is wanted.
Tensor clone(const Tensor& t);
// The same elements in another dtype; the tensor itself if it has that dtype already. A number that an integer dtype
// does not have, NaN or 300 in u8, becomes any of its numbers.
Tensor to(const Tensor& t, DType dtype);
// The same elements on another device; the tensor itself if it is there already.
Tensor to(const Tensor& t, Device device);
// Writes the elements of `from` into `into`: same shape and dtype, any devices. Not recorded: a tape that has
// used `into` and is still to be played would see other numbers than it used.
void assign(const Tensor& from, const Tensor& into);
// The same buffer under a new identity, which no tape follows.
Tensor detach(const Tensor& t);
// What the tape that records on this thread writes into the records of tensors that follow from parameters; 0 where
// none records. Set by autograd/tape.cpp alone.
extern constinit thread_local uint64_t recording_tape;
// Whether that tape follows t.
inline bool is_tracked(const Tensor& t) {
  return recording_tape != 0 && (t.is_parameter() || t.record()->tape == recording_tape);
}
// Marks a leaf: tapes will keep its gradient. Returns the tensor, which no tape may have recorded.
Tensor parameter(Tensor t);

std::ostream& operator<<(std::ostream& os, const Tensor& t);

}  // namespace rondo
