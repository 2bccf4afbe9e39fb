// Bytes on their way to a terminal: held back where they may become a stop text or are half a character, so that what
// comes out is always whole UTF-8. Bytes that are none become U+FFFD.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "apps/tokenizer.h"

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

// Takes tokens, gives out text: both of these, one behind the other. A token that stands for no text shows as U+FFFD.
class TextStream {
 public:
  // The tokenizer must outlive this.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops)
      : tokenizer_(&tokenizer), stop_(std::move(stops)) {}
  std::string push(int64_t token);
  std::string finish() { return whole(stop_.finish()) + utf8_.finish(); }
  bool stopped() const { return stop_.stopped(); }

 private:
  std::string whole(const std::string& bytes) {
    std::string text;
    for (const char c : bytes) text += utf8_.push(static_cast<unsigned char>(c));
    return text;
  }

  const Tokenizer* tokenizer_;
  StopStream stop_;
  Utf8Stream utf8_;
};

}  // namespace rondo
