#include "apps/curve.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

namespace rondo {
namespace {

// From one mark of an axis to the next: 1, 2 or 5 times a power of ten, for up to eight marks.
double spacing(double range) {
  const double rough = range / 8, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (rough <= factor * power) return factor * power;
  return 10 * power;
}

std::string text_of(double x, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, x + 0.0);  // -0 is 0
  return text;
}

struct Mark {
  double at;  // the number
  std::string text;
};

struct Axis {
  double low, high, from, to;  // numbers, and where they lie in the picture
  double operator()(double x) const { return from + (x - low) / (high - low) * (to - from); }
  std::vector<Mark> marks(double least = 0) const {
    const double apart = std::max(least, spacing(high - low));
    const int decimals = std::max(0, -int(std::floor(std::log10(apart) + 1e-9)));
    std::vector<Mark> all;
    for (double i = std::ceil(low / apart); i * apart <= high; ++i)
      all.push_back({i * apart, text_of(i * apart, decimals)});
    return all;
  }
};

}  // namespace

LossCurve::LossCurve(std::string_view metrics) {
  std::istringstream lines{std::string(metrics)};
  for (std::string line; std::getline(lines, line);) {
    const auto j = nlohmann::json::parse(line, nullptr, false);
    const auto number = [&](const char* name) {
      return j.is_object() && j.contains(name) && j[name].is_number() ? j[name].get<double>() : NAN;
    };
    add(number("step"), number("bits_per_byte"), training_);
    add(number("step"), number("validation_bits_per_byte"), validation_);
  }
}

void LossCurve::add(const StepRecord& r) { add(double(r.step), r.bits_per_byte, training_); }
void LossCurve::add(int64_t step, const Evaluation& e) { add(double(step), e.bits_per_byte(), validation_); }

void LossCurve::add(double step, double bits, std::vector<Point>& to) {
  if (std::isfinite(step) && std::isfinite(bits)) to.push_back({step, bits});
}

// Means of steps side by side, so that a long run draws no more than a short one.
std::vector<LossCurve::Point> LossCurve::thinned(const std::vector<Point>& points) {
  constexpr size_t most = 240;
  const size_t each = (points.size() + most - 1) / most;
  std::vector<Point> means;
  for (size_t begin = 0; begin < points.size(); begin += each) {
    const size_t n = std::min(each, points.size() - begin);
    Point sum{0, 0};
    for (size_t i = begin; i < begin + n; ++i) sum.step += points[i].step, sum.bits += points[i].bits;
    means.push_back({sum.step / double(n), sum.bits / double(n)});
  }
  return means;
}

std::string LossCurve::svg() const {
  if (training_.size() < 2) return "";
  const std::vector<Point> training = thinned(training_), validation = thinned(validation_);
  Axis x{0, training_.back().step, 64, 620}, y{INFINITY, -INFINITY, 300, 24};
  for (const std::vector<Point>* points : {&training, &validation})
    for (const Point& p : *points) y.low = std::min(y.low, p.bits), y.high = std::max(y.high, p.bits);
  const double room = std::max(0.05 * (y.high - y.low), 1e-3);
  y.low = std::max(0.0, y.low - room), y.high += room;  // bits are never below 0

  std::ostringstream svg;
  svg.precision(5);
  const auto text = [&](double at_x, double at_y, const char* anchor, const std::string& words,
                        const char* colour = "currentColor") {
    svg << "<text x=\"" << at_x << "\" y=\"" << at_y << "\" text-anchor=\"" << anchor << "\" fill=\"" << colour << "\">"
        << words << "</text>\n";
  };
  svg << R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 350" font-family="sans-serif" font-size="12">
<style>
  svg { color: #24292f; background: #ffffff; }
  @media (prefers-color-scheme: dark) { svg { color: #d0d7de; background: #0d1117; } }
</style>
)";
  for (const Mark& mark : y.marks()) {
    svg << "<path stroke=\"currentColor\" stroke-opacity=\"0.15\" d=\"M" << x.from << " " << y(mark.at) << "H" << x.to
        << "\"/>\n";
    text(x.from - 8, y(mark.at) + 4, "end", mark.text);
  }
  for (const Mark& mark : x.marks(1)) text(x(mark.at), y.from + 18, "middle", mark.text);
  text(x.from, 14, "start", "bits per byte");
  text(x.to, y.from + 38, "end", "step");

  constexpr const char *blue = "#2f81f7", *orange = "#e36209";
  svg << "<polyline fill=\"none\" stroke=\"" << blue << "\" stroke-width=\"1.5\" points=\"";
  for (const Point& p : training) svg << x(p.step) << "," << y(p.bits) << " ";
  svg << "\"/>\n";
  text(x.to, 40, "end", "training " + text_of(training_.back().bits, 3), blue);
  for (const Point& p : validation)
    svg << "<circle r=\"4\" fill=\"" << orange << "\" cx=\"" << x(p.step) << "\" cy=\"" << y(p.bits) << "\"/>\n";
  if (!validation_.empty()) text(x.to, 58, "end", "validation " + text_of(validation_.back().bits, 3), orange);
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace rondo
