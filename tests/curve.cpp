// The picture of a run: what lies where, and how much of it.
#include "apps/curve.h"

#include <numbers>
#include <sstream>

#include "tests/testing.h"

namespace rondo::testing {
namespace {

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// "(x, y)" of the points of the training line.
std::vector<std::pair<double, double>> points_of(const std::string& svg) {
  const size_t begin = svg.find("points=\"") + 8;
  std::istringstream numbers(svg.substr(begin, svg.find('"', begin) - begin));
  std::vector<std::pair<double, double>> all;
  char comma;
  for (double x, y; numbers >> x >> comma >> y;) all.emplace_back(x, y);
  return all;
}

StepRecord step(int64_t n, double bits) { return {.step = n, .bits_per_byte = bits}; }

}  // namespace

TEST_CASE("a loss curve has steps to the right and bits upwards") {
  LossCurve curve;
  CHECK(curve.svg().empty());
  curve.add(step(50, 8));
  CHECK(curve.svg().empty());
  curve.add(step(100, 4));
  curve.add(100, {.nats = 6 * std::numbers::ln2, .bytes = 1});
  const std::string svg = curve.svg();
  // 0..100 lie at 64..620, and 4..8 with a twentieth of room on both sides at 300..24.
  const double top = 24 + 276 * 0.05 / 1.1, bottom = 300 - 276 * 0.05 / 1.1;
  const auto points = points_of(svg);
  REQUIRE(points.size() == 2);
  CHECK(std::abs(points[0].first - 342) < 0.01);
  CHECK(std::abs(points[0].second - top) < 0.01);
  CHECK(std::abs(points[1].first - 620) < 0.01);
  CHECK(std::abs(points[1].second - bottom) < 0.01);
  CHECK(count(svg, "<circle r=\"4\" fill=\"#e36209\" cx=\"620\" cy=\"162\"/>") == 1);
  CHECK(count(svg, ">training 4.000<") == 1);
  CHECK(count(svg, ">validation 6.000<") == 1);
  for (const char* mark : {">4<", ">5<", ">6<", ">7<", ">8<", ">0<", ">20<", ">100<"}) CHECK(count(svg, mark) == 1);
}

TEST_CASE("a loss curve goes on from the metrics of a run") {
  LossCurve curve(
      "{\"step\":1,\"loss\":2,\"bits_per_byte\":3}\n{\"step\":2,\"validation_bits_per_byte\":5}\nnoise\n[1]\n"
      "{\"step\":\"x\",\"bits_per_byte\":1}\n{\"bits_per_byte\":1}\n{\"step\":2,\"bits_per_byte\":null}\n");
  curve.add(step(2, 3));
  CHECK(points_of(curve.svg()).size() == 2);
  CHECK(count(curve.svg(), "<circle") == 1);
}

TEST_CASE("a loss curve of a long run is short, and one that is level is one") {
  LossCurve curve;
  for (int64_t i = 1; i <= 1000; ++i) curve.add(step(i, i % 2 ? 3 : 5));
  const auto points = points_of(curve.svg());
  CHECK(points.size() == 200);  // five steps each
  CHECK(std::abs(points[0].first - (64 + 556 * 3 / 998.0)) < 0.1);
  for (int64_t i = 1; i <= 1000; ++i) curve.add(i, {.nats = 4, .bytes = 1});
  CHECK(count(curve.svg(), "<circle") == 200);
  CHECK(count(curve.svg(), ">training 5.000<") == 1);  // the last one, not its mean with others
  LossCurve learned;                                   // down to nothing
  for (int64_t i = 1; i <= 100; ++i) learned.add(step(i, 8.0 / double(i * i)));
  CHECK(count(learned.svg(), ">0<") == 2);
  CHECK(count(learned.svg(), ">-") == 0);
  LossCurve narrow;
  narrow.add(step(1, 12.3)), narrow.add(step(2, 12.31));
  for (const char* mark : {">12.300<", ">12.302<", ">12.310<"}) CHECK(count(narrow.svg(), mark) == 1);
  LossCurve level;
  level.add(step(1, 2)), level.add(step(2, 2));
  CHECK(std::abs(points_of(level.svg())[1].second - 162) < 0.01);
  LossCurve diverged;
  diverged.add(step(1, 2)), diverged.add(step(2, 2)), diverged.add(step(3, NAN));
  CHECK(points_of(diverged.svg()).size() == 2);
}

}  // namespace rondo::testing
