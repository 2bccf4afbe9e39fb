// What works through each(): copies of layers, and moving them.
#include "nn/module.h"

#include "nn/layers.h"
#include "nn/optimizer.h"
#include "tests/testing.h"

namespace rondo::testing {

TEST_CASE("copy_of: a layer with tensors of its own, as trained as the other") {
  Generator g{.seed = 1};
  const Linear linear(3, 2, true, g);
  const LayerNorm norm(3);
  parameter(linear.weight);
  const Linear copy = copy_of(linear), shared = linear;
  const LayerNorm norm_copy = copy_of(norm);
  CHECK(same_bits(copy.weight, linear.weight));
  CHECK(copy.weight.is_parameter());
  CHECK(copy.bias.is_parameter() == linear.bias.is_parameter());
  CHECK(named_tensors(norm_copy).size() == named_tensors(norm).size());
  linear.weight.data<float>()[0] = 7;
  CHECK(shared.weight.data<float>()[0] == 7);
  CHECK(copy.weight.data<float>()[0] != 7);
  assign(linear.weight, copy.weight);
  CHECK(same_bits(copy.weight, linear.weight));

  const Tape tape;  // it may follow what is copied
  CHECK(same_bits(copy_of(linear).bias, linear.bias));
}

TEST_CASE("move_to: what is there already stays what it is") {
  Generator g{.seed = 1};
  Linear linear(3, 2, true, g);
  const uint64_t before = linear.weight.id();
  move_to(linear, Device::cpu);
  CHECK(linear.weight.id() == before);
}

}  // namespace rondo::testing
