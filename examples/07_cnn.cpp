// 7. A small convolutional network (LeCun et al. 1998): it tells drawings apart, circles, squares, crosses and waves,
// wherever they are, however large, under as much noise as there is ink.
#include <rondo/rondo.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

using namespace rondo;

constexpr int64_t kSize = 20, kKinds = 4, kBatch = 64;
constexpr const char* kNames[] = {"circle", "square", "cross", "wave"};

struct Network {
  Conv2d first, second;
  Linear hidden, out;
  explicit Network(Generator& g)
      : first(1, 8, 5, {.padding = 2}, g),
        second(8, 16, 3, {.padding = 1}, g),
        hidden(16 * kSize / 4 * kSize / 4, 32, true, g),
        out(32, kKinds, true, g) {}

  // images [B, 1, size, size] -> logits [B, kinds]
  Tensor operator()(const Tensor& images) const {
    const Tensor strokes = max_pool2d(relu(first(images)), 2);  // half as high and wide
    const Tensor parts = max_pool2d(relu(second(strokes)), 2);  // and again
    return out(relu(hidden(reshape(parts, {images.dim(0), -1}))));
  }

  template <class F>
  void each(F&& f) {
    each_in("first.", first, f);
    each_in("second.", second, f);
    each_in("hidden.", hidden, f);
    each_in("out.", out, f);
  }
};

struct Drawings {
  Tensor images, kinds;  // [B, 1, size, size], [B]
};
Drawings draw(int64_t batch, Generator& g) {
  std::vector<float> ink;
  std::vector<int64_t> kinds;
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t kind = g.below(kKinds);
    const double r = 4 + 3 * g.uniform(), x0 = 8 + 4 * g.uniform(), y0 = 8 + 4 * g.uniform();
    for (int64_t at = 0; at < kSize * kSize; ++at) {
      const double x = double(at % kSize) - x0, y = double(at / kSize) - y0, far = std::max(std::abs(x), std::abs(y));
      const double away[] = {std::abs(std::hypot(x, y) - r), std::abs(far - r),
                             far < r ? std::abs(std::abs(x) - std::abs(y)) : 9,
                             std::abs(x) < r ? std::abs(y - 0.5 * r * std::sin(4 * x / r)) : 9};  // from the line
      ink.push_back(float((away[kind] < 0.8) + 0.5 * (2 * g.uniform() - 1)));
    }
    kinds.push_back(kind);
  }
  return {tensor(ink, {batch, 1, kSize, kSize}), tensor(kinds, {batch})};
}

int main() {
  Generator g{.seed = 1};
  const Network network(g);
  Adam adam(parameters(network), {.learning_rate = 3e-3});
  for (int step = 1; step <= 150; ++step) {
    const Drawings batch = draw(kBatch, g);
    Tape tape;
    const Tensor loss = cross_entropy(network(batch.images), batch.kinds);
    adam.step(tape.backward(loss));
    if (step % 50 == 0) std::printf("step %d  loss %.4f\n", step, loss.item());
  }

  const Drawings test = draw(1000, g);
  const Tensor found = argmax(network(test.images));
  const double share = mean(to(equal(found, test.kinds), DType::f32)).item();
  for (int64_t y = 0; y < kSize; ++y) {
    for (int64_t x = 0; x < kSize; ++x)
      std::printf("%c", " .:*#"[std::clamp(int(3.5 * test.images.data<float>()[y * kSize + x]), 0, 4)]);
    std::printf("\n");
  }
  std::printf("this is a %s; right about %.3f of 1000 new drawings\n", kNames[found.data<int64_t>()[0]], share);

  return share > 0.95 ? 0 : 1;
}
