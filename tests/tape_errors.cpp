// What a tape refuses: rules and losses that do not fit, gradients that would be lost in silence, NaN where it is asked
// to look.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "autograd/ops.h"
#include "nn/optimizer.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

Tensor number(double x) { return parameter(full({}, x, DType::f64)); }

TEST_CASE("tape: errors") {
  const Tensor a = parameter(randn({3}, DType::f32));
  Tape tape;
  CHECK(error_of([&] { tape.backward(a * a); }) == "backward: the loss must be one number, but has shape (3)");
  CHECK(error_of([&] { tape.backward(full({}, 1)); }) ==
        "backward: the loss does not depend on any parameter recorded on this tape (masks, indices and "
        "detach() have no gradient)");
  CHECK(error_of([&] { parameter(Tensor({2}, DType::i64)); }) == "parameter: a tensor of i64 cannot have a gradient");
  const Tensor twice = scale(a, 2);
  CHECK(
      error_of([&] { parameter(twice); }) ==
      "parameter: this tensor of shape (3) was made by an op that a tape recorded; detach() gives the same numbers as "
      "a leaf");
  CHECK(parameter(detach(twice)).is_parameter());
  const Tensor y = record("broken", {a}, detach(sum(a)), [](const Tensor& dy) -> Grads { return {dy}; });
  CHECK(error_of([&] { tape.backward(y); }) == "broken: the rule's gradient 0 has shape (), but its input has (3)");
  const Tensor z = record("broken", {a, a}, detach(sum(a)), [a](const Tensor&) -> Grads { return {a}; });
  CHECK(error_of([&] { tape.backward(z); }) == "broken: the rule gave 1 gradients for 2 inputs");
  CHECK(error_of([&] { tape.backward(z); }) ==
        "backward: the loss was recorded on another tape, or before this one was played, which empties it");
  const Tensor other =
      record("broken", {a}, detach(sum(a)), [](const Tensor&) -> Grads { return {zeros({3}, DType::f64)}; });
  CHECK(error_of([&] { tape.backward(other); }) == "broken: the rule's gradient 0 is f64, but its input is f32");
  const Tensor asks =
      record("broken", {a}, detach(sum(a)), [](const Tensor&, SoFar& so_far) -> Grads { return {so_far.take(5)}; });
  CHECK(error_of([&] { tape.backward(asks); }) == "broken: the rule asks for gradient 5, but the op has 1 inputs");
  for (const Tensor& same : {a, sum(a)})
    CHECK(error_of([&] { record("reverse", {a}, same, [](const Tensor& dy) -> Grads { return {-dy}; }); }) ==
          "reverse: the op returns a tensor that the tape follows already; return detach() of it");
  const Tensor constant = randn({3}, DType::f32);
  CHECK(error_of([&] {
          record("same", {a, constant}, constant, [](const Tensor& dy) -> Grads { return {dy, Tensor()}; });
        }) == "same: the op returns one of its inputs; return detach() of it");
  Gradients grads;
  CHECK(error_of([&] { grads.add(a, zeros({2})); }) ==
        "Gradients: a tensor of f32 (3) cannot have a gradient of f32 (2)");
  CHECK(error_of([&] { grads.add(a, zeros({3}, DType::f64)); }) ==
        "Gradients: a tensor of f32 (3) cannot have a gradient of f64 (3)");
  CHECK(grads.size() == 0);
  CHECK(error_of([&] { no_gradient("argmax", a); }) ==
        "argmax: has no backward rule, but its input of shape (3) is tracked; use detach()");
  CHECK(error_of([&] { no_gradient("argmax", detach(a)); }) == "(no error)");
}

TEST_CASE("tape: what would lose a gradient in silence throws") {
  const Tensor a = parameter(randn({3}, DType::f32));
  const auto lost = [](const std::string& what, const std::string& keep) {
    return what + ": the tape follows this tensor of shape (3), whose gradient would be lost; " + keep +
           "detach() it where none is wanted";
  };
  {
    Tape tape;
    const Tensor y = exp(a);
    for (const Tensor& t : {a, y}) {
      CHECK(error_of([&] { clone(t); }) == lost("clone", ""));
      CHECK(error_of([&] { to(t, DType::f64); }) == lost("to", "use cast, or "));
      CHECK(error_of([&] { t.view({3, 1}); }) == lost("view", "use reshape, or "));
      for (const Device device : devices())
        CHECK(error_of([&] { to(t, device); }) == (device == Device::cpu ? "(no error)" : lost("to", "")));
    }
    CHECK(values(y).size() == 3);  // to read them is no copy
    CHECK(same_bits(clone(detach(y)), y));
    tape.backward(sum(y));
    CHECK(clone(y).numel() == 3);  // played: a constant
  }
  CHECK(clone(a).numel() == 3);
}

TEST_CASE("tape: the op that first makes a NaN or an infinity is named") {
  const Tensor a = parameter(tensor<double>({1, 0, -1}, {3}));
  Tape tape({.check_finite = true});
  CHECK(error_of([&] { sum(log(a)); }) ==
        "log: the result of shape (3) is not finite: element 1 is the first NaN or infinity");
  const Tensor root = exp(scale(log(a * a + full({3}, 1e-320, DType::f64)), 0.5));
  CHECK(error_of([&] { tape.backward(sum(root)); }).find("div") == std::string::npos);
  // What was chosen may be infinite, where elements are only moved.
  const Tensor masked = where(greater(a, 0), a, -INFINITY), image = reshape(masked, {1, 1, 1, 3});
  CHECK(error_of([&] { max(reshape(masked, {3, 1}), 1), unfold(image, {1, 2}), stack({masked}, 0); }) == "(no error)");
  Tape other({.check_finite = true});
  const Tensor x = parameter(full({1}, 1e-200, DType::f64));
  const Tensor y = sum(div(full({1}, 1e-200, DType::f64), x));
  CHECK(error_of([&] { other.backward(scale(y, 1e200)); }) ==
        "div: a gradient of shape (1) is not finite: element 0 is the first NaN or infinity");
}

TEST_CASE("tape: one that is being played is not played again") {
  const Tensor a = number(2);
  Tape tape;
  const Tensor loss = a * a;
  Gradients grads;
  CHECK(error_of([&] { tape.backward(loss, 1, grads, [&](const Tensor&) { tape.backward(loss); }); }) ==
        "backward: this tape is being played");
  const Tensor again = a * a;
  CHECK(tape.backward(again)[a].item() == 4);
}

TEST_CASE("tape: an optimizer refuses to step while a recorded tape is alive") {
  const Tensor a = number(2);
  Adam adam({{"a", a, true}}, {});
  Tape tape;
  const Tensor b = a * a;
  CHECK(error_of([&] { adam.step({}); }).find("tape") != std::string::npos);
  const Gradients grads = tape.backward(b);
  CHECK(error_of([&] { adam.step(grads); }) == "(no error)");
}

TEST_CASE("tape: one that ends on another thread ends the process, which says why") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    auto tape = std::make_unique<Tape>();
    std::thread([&] { tape.reset(); }).join();
    _exit(0);
  }
  close(ends[1]);
  int status = 0;
  waitpid(child, &status, 0);
  char said[100] = {};
  CHECK(read(ends[0], said, sizeof said - 1) > 0);
  close(ends[0]);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(std::string(said) == "Rondo: a Tape ended on another thread than the one that made it\n");
}

}  // namespace
}  // namespace rondo::testing
