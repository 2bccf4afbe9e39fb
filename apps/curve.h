// loss.svg: how a run's bits per byte went.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "apps/metrics.h"

namespace rondo {

class LossCurve {
 public:
  // Begins with the lines of a metrics.jsonl; what is none of its lines is passed over.
  explicit LossCurve(std::string_view metrics = {});

  void add(const StepRecord& record);
  void add(int64_t step, const Evaluation& validation);

  // The picture; empty where there is nothing to draw: fewer than two training steps.
  std::string svg() const;

 private:
  struct Point {
    double step, bits;
  };
  static void add(double step, double bits, std::vector<Point>& to);
  static std::vector<Point> thinned(const std::vector<Point>& points);
  std::vector<Point> training_, validation_;
};

}  // namespace rondo
