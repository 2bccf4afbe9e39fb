// What a run prints: a line that is written over on a terminal, plain lines elsewhere.
#pragma once
#include <string>

#include "apps/metrics.h"

namespace rondo {

class Progress {
 public:
  // Steps first+1 .. last are to come.
  Progress(int64_t first, int64_t last);
  void step(const StepRecord& record);
  // A line that stays.
  void line(const std::string& text);

 private:
  std::string step_text(const StepRecord& record) const;

  int64_t first_, last_;
  bool terminal_;
  double shown_ = -1;     // seconds at which the terminal's line was drawn
  bool pending_ = false;  // whether that line stands there
};

}  // namespace rondo
