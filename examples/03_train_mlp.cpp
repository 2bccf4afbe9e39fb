// 3. Training: layers are plain structs of tensors. A small network learns two interleaved spirals.
#include <rondo/rondo.h>

#include <cmath>
#include <cstdio>

using namespace rondo;

// Two layers and their activation. each() names every tensor: that is how the optimizer and the files find them.
struct Mlp {
  Linear hidden, middle, out;
  explicit Mlp(Generator& g) : hidden(2, 64, true, g), middle(64, 64, true, g), out(64, 2, true, g) {}

  Tensor operator()(const Tensor& x) const { return out(gelu(middle(gelu(hidden(x))))); }

  template <class F>
  void each(F&& f) {
    each_in("hidden.", hidden, f);
    each_in("middle.", middle, f);
    each_in("out.", out, f);
  }
};

// Points on two spirals, and which one each is on.
std::pair<Tensor, Tensor> spirals(int64_t n, Generator& g) {
  std::vector<float> points;
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t arm = g.below(2);
    const double t = g.uniform(), angle = 7 * t + 3.14159265 * double(arm);
    points.push_back(float(t * std::cos(angle) + 0.01 * g.normal()));
    points.push_back(float(t * std::sin(angle) + 0.01 * g.normal()));
    labels.push_back(arm);
  }
  return {tensor(points, {n, 2}), tensor(labels, {n})};
}

int main() {
  Generator g{.seed = 1};
  const Mlp mlp(g);
  Adam adam(parameters(mlp), {});
  const Schedule schedule{.shape = "cosine", .warmup_steps = 20, .decay_steps = 600};

  for (int step = 1; step <= 600; ++step) {
    adam.set_learning_rate(1e-2 * schedule.share(step));
    const auto [x, labels] = spirals(128, g);
    Tape tape;
    const Tensor loss = cross_entropy(mlp(x), labels);
    adam.step(tape.backward(loss));
    if (step % 100 == 0) std::printf("step %d  loss %.4f\n", step, loss.item());
  }

  // No tape alive: inference, nothing is recorded.
  const auto [x, labels] = spirals(2000, g);
  const double accuracy = mean(to(equal(argmax(mlp(x)), labels), DType::f32)).item();
  std::printf("accuracy on new points: %.3f\n", accuracy);

  return accuracy > 0.975 ? 0 : 1;
}
