// Clipping, Adam and SGD on CUDA: more tensors than one launch takes, and some that are empty or end within a chunk.
#include <limits>

#include "tests/cuda/compare.h"

namespace rondo::testing {
namespace {

// 200 tensors: many small ones, some of no elements, the longest of three chunks.
std::vector<Shape> shapes() {
  std::vector<Shape> all = {{0}, {4096}, {1}, {4097}, {3, 33}, {0, 7}, {10000}, {31}};
  for (int64_t i = int64_t(all.size()); i < 199; ++i) all.push_back({i % 7, 5});
  all.push_back({0});
  return all;
}

void clip(auto device, const List& in, double max_norm, const List& out) {
  clip_factor(device, in, max_norm, out[0], out[1]);
}

// w, m, v of all slots, then the steps, after `steps` steps of Adam with one and the same gradient.
struct Steps {
  int64_t n_slots;
  int steps;
  double factor;

  void operator()(auto device, const List& in, const List& out) const {
    const size_t n = size_t(n_slots);
    for (size_t i = 0; i < out.size(); ++i) copy(device, in[i], out[i]);
    const DType dtype = in.front().dtype();
    const Device where = in.front().device();
    std::vector<AdamSlot> slots;
    // In a step only every other slot of the second half takes part, as parameters do that no gradient reached.
    for (size_t i = 0; i < n; ++i)
      if (i < n / 2 || i % 2 == 0)
        slots.push_back({out[i], in[3 * n + 1 + i], out[n + i], out[2 * n + i], int64_t(i), i % 3 == 0 ? 0.1 : 0});
    for (int step = 0; step < steps; ++step)
      adam_step(device, slots, {.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6}, full({}, 0.01, dtype, where),
                full({}, factor, dtype, where), out[3 * n]);
  }
};

}  // namespace

TEST_CASE("cuda clip_factor") {
  for (DType d : kDTypes) {
    List grads;
    for (const Shape& shape : shapes()) grads.push_back(randn(shape, d, grads.size()));
    const List numbers = {like({}, d), like({}, d)};
    for (double max_norm : {0.5, 1e6, std::numeric_limits<double>::infinity()}) {
      const auto run = [&](auto device, const List& in, const List& out) { clip(device, in, max_norm, out); };
      check_same("clip_factor", grads, numbers, tolerance_of(d), run);
      check_same("clip_factor, no elements", {like({0}, d)}, numbers, tolerance_of(d), run);
      if (max_norm != 0.5) continue;
      for (double wrong : {double(INFINITY), double(NAN)}) {
        List one_wrong = grads;
        one_wrong[6] = clone(grads[6]);
        dispatch_float(d, [&]<class T>() { one_wrong[6].data<T>()[9999] = T(wrong); });
        check_same("clip_factor, not finite", one_wrong, numbers, tolerance_of(d), run);
      }
    }
    // Squares of this do not fit into f32, their root does.
    check_same("clip_factor, large", {full({5000}, 1e30, d)}, numbers, tolerance_of(d),
               [](auto device, const List& in, const List& out) { clip(device, in, 1.0, out); });
    const Tensor norm({}, d, Device::cuda), factor({}, d, Device::cuda);
    clip_factor(Cuda{}, {}, 0.5, norm, factor);
    CHECK(norm.item() == 0);
    CHECK(factor.item() == 1);
  }
}

TEST_CASE("cuda adam_step") {
  for (DType d : kDTypes) {
    List in, out;
    const std::vector<Shape> all = shapes();
    const int64_t n = int64_t(all.size());
    for (int which = 0; which < 3; ++which)
      for (const Shape& shape : all) {
        in.push_back(randn(shape, d, in.size()));
        if (which == 2) binary(Cpu{}, Binary::mul, clone(in.back()), clone(in.back()), in.back());  // v >= 0
      }
    Tensor steps({n}, DType::i64);
    for (int64_t i = 0; i < n; ++i) steps.data<int64_t>()[i] = i % 11;
    in.push_back(steps);
    out = in;
    for (const Shape& shape : all) in.push_back(randn(shape, d, in.size()));
    check_same("adam_step", in, out, 2 * tolerance_of(d), Steps{n, 3, 0.75});

    List untouched;
    for (const Tensor& t : out) untouched.push_back(Tensor(t.shape(), t.dtype(), Device::cuda));
    Steps{n, 1, NAN}(Cuda{}, on(Device::cuda, in), untouched);
    for (size_t i = 0; i < untouched.size(); ++i) CHECK(same_bits(to(untouched[i], Device::cpu), in[i]));
  }
  const Tensor none({0}, DType::i64, Device::cuda), one = full({}, 1, DType::f32, Device::cuda);
  adam_step(Cuda{}, {}, {}, one, one, none);
}

TEST_CASE("cuda sgd_step") {
  const std::vector<Shape> all = shapes();
  const size_t n = all.size();
  for (DType d : kDTypes)
    for (const SGDOptions& how : {SGDOptions{}, SGDOptions{.momentum = 0.75, .weight_decay = 0.25},
                                  SGDOptions{.momentum = 0.5, .nesterov = true}}) {
      List in;  // weights and velocities, which change, then gradients
      for (int which = 0; which < 3; ++which)
        for (const Shape& shape : all) in.push_back(randn(shape, d, in.size()));
      const List changed(in.begin(), in.begin() + int64_t(2 * n));
      const auto step = [&](double factor) {
        return [&, factor](auto device, const List& given, const List& out) {
          for (size_t i = 0; i < out.size(); ++i) copy(device, given[i], out[i]);
          std::vector<SGDSlot> slots;
          for (size_t i = 0; i < n; ++i)
            if (i < n / 2 || i % 2 == 0)
              slots.push_back({out[i], given[2 * n + i], how.momentum > 0 ? out[n + i] : Tensor()});
          const Device where = given.front().device();
          for (int i = 0; i < 3; ++i)
            sgd_step(device, slots, how, full({}, 0.125, d, where), full({}, factor, d, where));
        };
      };
      check_same("sgd_step", in, changed, tolerance_of(d), step(0.75));
      List untouched;
      for (const Tensor& t : changed) untouched.push_back(Tensor(t.shape(), t.dtype(), Device::cuda));
      step(NAN)(Cuda{}, on(Device::cuda, in), untouched);
      for (size_t i = 0; i < untouched.size(); ++i) CHECK(same_bits(to(untouched[i], Device::cpu), in[i]));
    }
}

}  // namespace rondo::testing
