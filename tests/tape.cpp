// The engine itself: what is recorded, how gradients add up, what is freed, and that a warm tape asks malloc for
// nothing.
#include "autograd/tape.h"

#include <thread>

#include "autograd/ops.h"
#include "tensor/allocator.h"
#include "tests/mallocs.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

Tensor number(double x) { return parameter(full({}, x, DType::f64)); }

TEST_CASE("tape: nothing is recorded without a tape, or without a tracked input") {
  const Tensor a = number(2);
  CHECK(Tape::current() == nullptr);
  CHECK((a * a).item() == 4);
  Tape tape;
  const Tensor constant = full({}, 3, DType::f64);
  CHECK(tape.size() == 0);
  mul(constant, constant);
  CHECK(tape.size() == 0);
  mul(a, constant);
  CHECK(tape.size() == 1);
}

TEST_CASE("tape: a value used twice gets both gradients") {
  const Tensor a = number(3), b = number(5);
  Tape tape;
  const Tensor c = a * b;
  const Gradients grads = tape.backward(c * c + c + a);  // (ab)^2 + ab + a
  CHECK(grads[a].item() == 2 * 15 * 5 + 5 + 1);
  CHECK(grads[b].item() == 2 * 15 * 3 + 3);
}

TEST_CASE("tape: one gradient returned for two inputs is not added into itself") {
  const Tensor a = parameter(randn({7}));
  Tape tape;
  const Gradients grads = tape.backward(sum(add(a, a) + a));
  for (double g : values(grads[a])) CHECK(g == 3);
}

TEST_CASE("tape: gradients through views that share a buffer") {
  const Tensor a = parameter(randn({2, 3}));
  Tape tape;
  const Tensor flat = reshape(a, {6});
  const Gradients grads = tape.backward(sum(flat) + sum(reshape(flat, {3, 2})) + sum(a * a));
  CHECK(max_abs_diff(grads[a], 2.0 * a + full({2, 3}, 2, DType::f64)) < 1e-15);
}

TEST_CASE("tape: a new tape is truncated backpropagation through time") {
  const Tensor a = number(3);
  Tensor carried;
  {
    Tape first;
    carried = a * a;
    first.backward(carried);
  }
  Tape second;
  const Gradients grads = second.backward(carried * a);
  CHECK(grads[a].item() == 9);  // not 27: `carried` counts as a constant
}

TEST_CASE("tape: can be used again after it was played; old results are constants then") {
  const Tensor a = number(2);
  Tape tape;
  const Tensor b = a * a;
  CHECK(tape.backward(b)[a].item() == 4);
  CHECK(tape.size() == 0);
  CHECK(tape.backward(b * a)[a].item() == 4);
}

TEST_CASE("tape: an inner tape records for itself") {
  const Tensor a = number(2);
  Tape outer;
  const Tensor b = a * a;
  {
    Tape inner;
    CHECK(inner.backward(b * a)[a].item() == 4);
  }
  CHECK(outer.backward(b * a)[a].item() == 12);
}

TEST_CASE("tape: several threads have a tape each on the same parameters") {
  const Tensor a = parameter(randn({5, 7})), b = parameter(randn({5, 7}));
  const auto gradients = [&](double x) {
    Tape tape;
    Tensor y = mul(a, b);
    for (int i = 0; i < 30; ++i) y = mul(add(y, x * a), b);
    return tape.backward(sum(y));
  };
  std::vector<Gradients> alone(4), together(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) alone[i] = gradients(double(i));
  for (size_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { together[i] = gradients(double(i)); });
  for (std::thread& t : threads) t.join();
  for (size_t i = 0; i < 4; ++i) {
    CHECK(values(together[i][a]) == values(alone[i][a]));
    CHECK(values(together[i][b]) == values(alone[i][b]));
  }
}

TEST_CASE("tape: seed and accumulation into given gradients") {
  const Tensor a = number(2), b = number(7);
  Gradients grads;
  for (int segment = 0; segment < 3; ++segment) {
    Tape tape;
    tape.backward(a * b, 0.5, grads);
  }
  CHECK(grads[a].item() == 3 * 0.5 * 7);
  CHECK(grads[b].item() == 3 * 0.5 * 2);
  grads.clear();
  CHECK(grads.size() == 0);
  CHECK(!grads.find(a));
}

TEST_CASE("tape: a gradient is given out once it is whole, those of the last ops first") {
  const Tensor a = number(2), b = number(3), c = number(5), unused = number(7);
  Tape tape;
  const Tensor ab = a * b, abc = ab * c, useless = unused * c;
  Gradients grads;
  grads.add(a, full({}, 100, DType::f64));
  std::vector<std::pair<uint64_t, double>> given;
  tape.backward(abc * a, 1, grads, [&](const Tensor& p) {
    const Tensor g = grads.find(p);
    given.emplace_back(p.id(), g ? g.item() : -1);
  });
  CHECK(given == std::vector<std::pair<uint64_t, double>>{
                     {unused.id(), -1}, {c.id(), 2. * 3 * 2}, {b.id(), 2. * 5 * 2}, {a.id(), 100 + 2. * 3 * 5 * 2}});
}

TEST_CASE("tape: what is given out may be written to, also where a rule still needs its buffer") {
  const Tensor a = number(2), b = number(3);
  Tape tape;
  const Tensor sum = a * a + b;  // both sides of the sum get one gradient
  Gradients grads;
  tape.backward(sum, 1, grads, [&](const Tensor& p) {
    const Tensor g = grads.own(p);
    if (p.id() == b.id()) g.data<double>()[0] = 50;
  });
  CHECK(grads[a].item() == 4);
  CHECK(grads[b].item() == 50);
  CHECK(!grads.own(number(1)));
  CHECK(!Gradients().own(a));
}

TEST_CASE("tape: a rule may add to the gradients that are there") {
  // y = x * factor, whose rule adds in place where it may; counts how often it did.
  int in_place = 0;
  const auto times = [&](const Tensor& x, double factor) {
    return record("times", {x}, scale(detach(x), factor),
                  [&in_place, x, factor](const Tensor& dy, SoFar& so_far) -> Grads {
                    Tensor dx = so_far.take(0);
                    if (!dx) return {scale(dy, factor)};
                    ++in_place;
                    dx.data<double>()[0] += factor * dy.item();
                    return {dx};
                  });
  };
  const Tensor a = number(2);
  Gradients grads;
  for (int segment = 0; segment < 3; ++segment) {
    Tape tape;
    const Tensor twice = times(a, 3) + times(a, 5);
    tape.backward(twice, 1, grads);
  }
  CHECK(grads[a].item() == 3 * 8);
  CHECK(in_place == 5);  // all but the very first

  // One tensor as two inputs, of which the rule adds to the second alone.
  {
    const Tensor twice = number(2);
    Gradients both;
    both.add(twice, full({}, 100, DType::f64));
    Tape tape;
    const Tensor y =
        record("pair", {twice, twice}, scale(detach(twice), 1), [](const Tensor& dy, SoFar& so_far) -> Grads {
          const Tensor second = so_far.take(1);
          second.data<double>()[0] += 7;
          return {scale(dy, 3), second};
        });
    tape.backward(y, 1, both);
    CHECK(both[twice].item() == 110);
  }

  // What was added to is looked at as what was made is.
  {
    const Tensor x = number(2);
    Tape tape({.check_finite = true});
    const Tensor y = record("infinite", {x}, scale(detach(x), 1), [](const Tensor&, SoFar& so_far) -> Grads {
      const Tensor dx = so_far.take(0);
      dx.data<double>()[0] += INFINITY;
      return {dx};
    });
    const Tensor sum = y + scale(x, 3);
    CHECK(error_of([&] { tape.backward(sum); }).find("infinite: a gradient of shape () is not finite") == 0);
  }

  // What somebody else holds is left alone.
  const Tensor held = grads[a];
  {
    Tape tape;
    tape.backward(times(a, 7), 1, grads);
  }
  CHECK(held.item() == 24);
  CHECK(grads[a].item() == 31);
  CHECK(in_place == 5);

  // Where a rule throws, gradients of earlier tapes are still there.
  {
    Tape tape;
    const Tensor b = record("throws", {a}, scale(detach(a), 1), [](const Tensor&) -> Grads { throw Error("no"); });
    const Tensor sum = b + times(a, 1);
    CHECK(error_of([&] { tape.backward(sum, 1, grads); }) == "no");
  }
  CHECK(grads[a].item() == 32);

  Tape tape;
  const Tensor wrong = record("wrong", {a}, scale(detach(a), 1), [](const Tensor& dy, SoFar& so_far) -> Grads {
    so_far.take(0);
    return {dy};
  });
  CHECK(error_of([&] { tape.backward(wrong, 1, grads); }) ==
        "wrong: the rule took gradient 0 to add to it, but returned another");
}

TEST_CASE("tape: gradients of many parameters are found") {
  std::vector<Tensor> all;
  for (int i = 0; i < 1000; ++i) all.push_back(number(i));
  Tape tape;
  Tensor total = all[0];
  for (size_t i = 1; i < all.size(); ++i) total = total + all[i] * all[i];
  const Gradients grads = tape.backward(total);
  CHECK(grads.size() == 1000);
  for (size_t i = 1; i < all.size(); ++i) CHECK(grads[all[i]].item() == 2.0 * double(i));
}

TEST_CASE("tape: what nothing reaches has no gradient") {
  const Tensor a = number(2), b = number(3);
  Tape tape;
  mul(a, b);  // recorded, but does not feed the loss
  const Gradients grads = tape.backward(scale(a, 1.0));
  CHECK(!grads.find(b));
  CHECK(error_of([&] { grads[b]; }) == "Gradients: no gradient reached this tensor of shape ()");
}

TEST_CASE("tape: a long chain needs no recursion, and is freed as the walk goes by") {
  const Tensor a = parameter(randn({1000}));
  const int64_t before = memory_stats().current_bytes;
  Tape tape;
  Tensor x = a;
  for (int i = 0; i < 20000; ++i) x = scale(x, 1.0001);
  const Tensor loss = sum(x);
  x = {};
  tape.backward(loss);
  CHECK(tape.size() == 0);
  CHECK(memory_stats().current_bytes - before < 64 * 1024);
}

TEST_CASE("tape: NoTape") {
  const Tensor a = number(3);
  Tape tape;
  Tensor y;
  {
    const NoTape constant;
    CHECK(Tape::current() == nullptr);
    y = a * a;
    CHECK(clone(a).item() == 3);
    {
      Tape inner;  // records, and ends
      CHECK(inner.backward(a * a)[a].item() == 6);
    }
    CHECK(Tape::current() == nullptr);
    const NoTape again;
    CHECK(Tape::current() == nullptr);
  }
  CHECK(Tape::current() == &tape);
  CHECK(tape.size() == 0);
  CHECK(tape.backward(y * a)[a].item() == 9);
  {
    auto inner = std::make_unique<Tape>();
    const NoTape constant;
    inner.reset();
    CHECK(Tape::current() == nullptr);  // the outer tape was there before too
    inner = std::make_unique<Tape>();   // perhaps where the one before was
    CHECK(inner->backward(a * a)[a].item() == 6);
    inner.reset();
    y = cast(a, a.dtype());
  }
  CHECK(!tape.tracks(y));
  // Rules are played, not recorded.
  const Tape* seen = &tape;
  const Tensor same = record("same", {a}, detach(a), [&](const Tensor& dy) -> Grads {
    seen = Tape::current();
    return {dy};
  });
  tape.backward(same);
  CHECK(seen == nullptr);
}

TEST_CASE("tape: they need not end in the order they were made in") {
  const Tensor a = number(3);
  auto tape = std::make_unique<Tape>();
  for (int i = 0; i < 3; ++i) {
    tape = std::make_unique<Tape>();  // the next one begins before the last one ends
    CHECK(Tape::current() == tape.get());
    CHECK(tape->backward(a * a)[a].item() == 6);
  }
  auto inner = std::make_unique<Tape>();
  tape.reset();
  CHECK(inner->backward(a * a)[a].item() == 6);
  inner.reset();
  CHECK(Tape::current() == nullptr);
  CHECK((a * a).item() == 9);
}

TEST_CASE("tape: Graphviz") {
  const Tensor a = parameter(randn({2, 3}));
  Tape tape;
  const Tensor y = sum(exp(a));
  CHECK(tape.to_dot() ==
        "digraph tape {\n  node [shape=box];\n"
        "  t0 [label=\"(2, 3)\", style=filled];\n"
        "  t1 [label=\"exp\\n(2, 3)\"];\n  t0 -> t1;\n"
        "  t2 [label=\"sum\\n()\"];\n  t1 -> t2;\n}\n");
}

TEST_CASE("tape: recording and playing on a warm tape calls no malloc") {
  if (!mallocs_are_counted()) return skip("this build has a malloc of its own");
  const Tensor a = parameter(randn({16})), b = parameter(randn({16}));
  Gradients grads;
  const auto step = [&] {
    grads.clear();
    Tape tape;
    Tensor x = a;
    for (int i = 0; i < 50; ++i) x = gelu(x * b + a);
    tape.backward(sum(x), 1, grads);
  };
  for (int i = 0; i < 3; ++i) step();
  const int64_t before = mallocs();
  for (int i = 0; i < 3; ++i) step();
  CHECK(mallocs() == before);
}

}  // namespace
}  // namespace rondo::testing
