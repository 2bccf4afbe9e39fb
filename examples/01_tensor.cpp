// 1. Tensors: a buffer, a shape, a dtype. Ops make new tensors and never change old ones.
#include <rondo/rondo.h>

#include <iostream>

using namespace rondo;

int main() {
  // From values, row by row. A tensor is always contiguous.
  const Tensor a = tensor<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  std::cout << "a = " << a << "\n";

  // Shapes broadcast as in NumPy: aligned at the right, a dimension of 1 is repeated.
  const Tensor row = tensor<float>({10, 20, 30}, {3});
  std::cout << "a + row = " << a + row << "\n";
  std::cout << "a * a = " << a * a << "\n";

  // reshape shares the buffer; permute and narrow copy.
  std::cout << "transposed: " << permute(a, {1, 0}) << "\n";
  std::cout << "its last two columns: " << narrow(a, 1, 1, 2) << "\n";
  std::cout << "a times its transpose: " << matmul(a, permute(a, {1, 0})) << "\n";
  std::cout << "softmax of each row: " << softmax(a) << "\n";

  // What does not fit is an Error that names both sides.
  try {
    matmul(a, a);
  } catch (const Error& e) {
    std::cout << "error: " << e.what() << "\n";
  }

  // Random numbers depend on the seed, the stream and the position alone, never on threads.
  Generator g{.seed = 42};
  Tensor noise({2, 2});
  fill_normal(noise, 0, 1, g);
  std::cout << "noise = " << noise << ", the generator is at " << g.position << "\n";

  return sum(a).item() == 21 ? 0 : 1;
}
