// A program outside this tree, with headers of its own, against an installed Rondo: it must compile, link and
// differentiate.
#include <rondo/rondo.h>

#include <cstdio>

#include "tensor/tensor.h"

int main() {
  const rondo::Tensor x = rondo::parameter(rondo::tensor<float>({1, 2, 3}, {3}));
  rondo::Tape tape;
  const rondo::Gradients grads = tape.backward(rondo::sum(x * x));
  const std::vector<float> dx = grads[x].to_vector<float>();
  std::printf("%g %g %g\n", dx[0], dx[1], dx[2]);
  return dx == std::vector<float>{kExpected, 4, 6} ? 0 : 1;
}
