#pragma once
#include <string>

namespace libtorch {

// Computes what a golden case of tests/goldens holds and compares it with what Rondo computes: logits, states,
// memories, loss, every gradient, the losses and gradient norms of its training steps, greedy text both ways. The
// bounds are those of tests/goldens/README.md. Prints a line for each kind; throws where one is missed.
void check_against_rondo(const std::string& golden_case);

}  // namespace libtorch
