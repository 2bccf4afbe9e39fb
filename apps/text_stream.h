// Bytes on their way to a terminal: held back where they may become a stop text or are half a character, so that what
// comes out is always whole UTF-8. Bytes that are none become U+FFFD.
#pragma once
#include <string>
#include <vector>

namespace rondo {

// Takes bytes, gives out whole characters.
class Utf8Stream {
 public:
  std::string push(unsigned char byte);
  // What was held back when the text ended.
  std::string finish();

 private:
  std::string held_;  // the beginning of a character
};

// Ends a text before the first of the stop texts.
class StopStream {
 public:
  explicit StopStream(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  // The bytes that cannot be part of a stop text any more.
  std::string push(char byte);
  std::string finish() { return stopped_ ? std::string() : std::move(held_); }
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace rondo
