// Clipping, Adam and SGD. All tensors together are cut into one list of chunks, so that many small ones keep every
// thread busy.
#include <algorithm>
#include <cmath>

#include "tensor/cpu/scratch.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

constexpr int64_t kChunk = 16384;

// The chunks of tensors 0..n-1 in one row: chunk c belongs to the last tensor whose first[] is <= c.
struct Chunks {
  const int64_t* first;  // n + 1 numbers; the last is the number of chunks
  int64_t n;

  template <class Numel>
  Chunks(int64_t n_tensors, Numel&& numel, cpu::Scratch& scratch) : n(n_tensors) {
    int64_t* const table = scratch.get<int64_t>(n + 1);
    table[0] = 0;
    for (int64_t i = 0; i < n; ++i) table[i + 1] = table[i] + (numel(i) + kChunk - 1) / kChunk;
    first = table;
  }
  int64_t count() const { return first[n]; }

  // Calls f(tensor, begin, length) for chunk c.
  template <class Numel, class F>
  void at(int64_t c, Numel&& numel, F&& f) const {
    const int64_t tensor = std::upper_bound(first, first + n, c) - first - 1;
    const int64_t begin = (c - first[tensor]) * kChunk;
    f(tensor, begin, std::min(kChunk, numel(tensor) - begin));
  }
};

// f(slot, begin, length) for the chunks of all weights.
template <class Slot, class F>
void over_chunks(std::span<const Slot> slots, F&& f) {
  cpu::Scratch scratch;
  const auto numel = [&](int64_t i) { return slots[size_t(i)].weight.numel(); };
  const Chunks chunks(int64_t(slots.size()), numel, scratch);
  parallel_for(chunks.count(), [&](int64_t c) {
    chunks.at(c, numel, [&](int64_t i, int64_t begin, int64_t n) { f(slots[size_t(i)], begin, n); });
  });
}

// In f64, so that squares of large f32 do not overflow; eight sums side by side fill a vector register.
template <class T>
double sum_of_squares(const T* x, int64_t n) {
  constexpr int kLanes = 8;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lanes[k] += double(x[i + k]) * double(x[i + k]);
  for (; i < n; ++i) lanes[i % kLanes] += double(x[i]) * double(x[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

// w = keep w - size m / (root sqrt(v) + eps), with keep = 1 - lr decay, size = lr / (1 - beta1^t),
// root = 1 / sqrt(1 - beta2^t); mix1 = 1 - beta1, mix2 = 1 - beta2.
template <class T>
struct AdamNumbers {
  T factor, mix1, beta2, mix2, keep, size, root, eps;
};

template <class T>
void adam_chunk(const AdamNumbers<T>& a, T* __restrict w, const T* __restrict grad, T* __restrict m, T* __restrict v,
                int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const T g = a.factor * grad[i];
    const T m1 = m[i] + a.mix1 * (g - m[i]);
    const T v1 = a.beta2 * v[i] + a.mix2 * g * g;
    m[i] = m1;
    v[i] = v1;
    w[i] = a.keep * w[i] - a.size * m1 / (std::sqrt(v1) * a.root + a.eps);
  }
}

// v is null where there is no momentum.
template <class T>
struct SGDNumbers {
  T factor, decay, momentum, rate;
  bool nesterov;
};

template <class T>
void sgd_chunk(const SGDNumbers<T>& a, T* __restrict w, const T* __restrict grad, T* __restrict v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const T g = a.factor * grad[i] + a.decay * w[i];
    const T kept = v ? a.momentum * v[i] + g : g;
    if (v) v[i] = kept;
    w[i] -= a.rate * (a.nesterov ? g + a.momentum * kept : kept);
  }
}

}  // namespace

void clip_factor(Cpu, std::span<const Tensor> grads, double max_norm, const Tensor& norm, const Tensor& factor) {
  cpu::Scratch scratch;
  const auto numel = [&](int64_t i) { return grads[size_t(i)].numel(); };
  const Chunks chunks(int64_t(grads.size()), numel, scratch);
  double* const sums = scratch.get<double>(chunks.count());
  parallel_for(chunks.count(), [&](int64_t c) {
    chunks.at(c, numel, [&](int64_t i, int64_t begin, int64_t n) {
      const Tensor& g = grads[size_t(i)];
      sums[c] = dispatch_float(g.dtype(), [&]<class T>() { return sum_of_squares(g.data<T>() + begin, n); });
    });
  });
  double sum = 0;
  for (int64_t c = 0; c < chunks.count(); ++c) sum += sums[c];
  const double length = std::sqrt(sum);
  dispatch_float(norm.dtype(), [&]<class T>() {
    norm.data<T>()[0] = T(length);
    factor.data<T>()[0] = std::isfinite(T(length)) ? T(std::min(1.0, max_norm / (length + 1e-6))) : T(NAN);
  });
}

void adam_step(Cpu, std::span<const AdamSlot> slots, const AdamOptions& how, const Tensor& learning_rate,
               const Tensor& factor, const Tensor& steps) {
  const double rate = learning_rate.item(), scale = factor.item();
  if (std::isnan(scale)) return;
  int64_t* const step = steps.data<int64_t>();
  for (const AdamSlot& s : slots) ++step[s.index];
  over_chunks(slots, [&](const AdamSlot& s, int64_t begin, int64_t n) {
    const double t = double(step[s.index]);
    dispatch_float(s.weight.dtype(), [&]<class T>() {
      const AdamNumbers<T> numbers{T(scale),
                                   T(1 - how.beta1),
                                   T(how.beta2),
                                   T(1 - how.beta2),
                                   T(1 - rate * s.weight_decay),
                                   T(rate / (1 - std::pow(how.beta1, t))),
                                   T(1 / std::sqrt(1 - std::pow(how.beta2, t))),
                                   T(how.eps)};
      adam_chunk(numbers, s.weight.data<T>() + begin, s.grad.data<T>() + begin, s.m.data<T>() + begin,
                 s.v.data<T>() + begin, n);
    });
  });
}

void sgd_step(Cpu, std::span<const SGDSlot> slots, const SGDOptions& how, const Tensor& learning_rate,
              const Tensor& factor) {
  const double rate = learning_rate.item(), scale = factor.item();
  if (std::isnan(scale)) return;
  over_chunks(slots, [&](const SGDSlot& s, int64_t begin, int64_t n) {
    dispatch_float(s.weight.dtype(), [&]<class T>() {
      const SGDNumbers<T> numbers{T(scale), T(how.weight_decay), T(how.momentum), T(rate), how.nesterov};
      sgd_chunk(numbers, s.weight.data<T>() + begin, s.grad.data<T>() + begin, s.v ? s.v.data<T>() + begin : nullptr,
                n);
    });
  });
}

}  // namespace rondo
