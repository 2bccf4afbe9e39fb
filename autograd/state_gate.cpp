// The fixed gate of the recurrent states.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {

Tensor state_gate(const Tensor& c, const Tensor& z, const Tensor& beta) {
  check_float("state_gate", "c", c);
  check_alike("state_gate", "z", z, "c", c);
  check_alike("state_gate", "beta", beta, "c", c);
  check(z.shape() == c.shape(), "state_gate: z has shape ", z.shape(), ", but c has shape ", c.shape());
  check(c.rank() > 0 && beta.shape() == Shape{c.dim(-1)}, "state_gate: beta has shape ", beta.shape(),
        ", but c has shape ", c.shape(), ", and beta is one number for each of its columns");
  Tensor y = empty_like(c);
  dispatch(c.device(), [&](auto device) { state_gate_forward(device, c, z, beta, y); });
  return record("state_gate", {c, z, beta}, y, [c, z, beta](const Tensor& dy, SoFar& so_far) -> Grads {
    Tensor dc = empty_like(c), dz = empty_like(z);
    const Into dbeta = so_far.into(2, beta);
    dispatch(c.device(), [&](auto device) { state_gate_backward(device, dy, c, z, beta, dc, dz, dbeta); });
    return {dc, dz, dbeta.tensor};
  });
}

}  // namespace rondo
