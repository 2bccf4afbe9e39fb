// For tests of word pieces: a text to learn them from, and whether this build can.
#pragma once
#include <string>

#include "apps/sentencepiece.h"
#include "tensor/random.h"
#include "tests/testing.h"

namespace rondo::testing {

inline std::string words(size_t n, uint64_t seed = 5) {
  const char* begins[] = {"crea", "mo", "be", "light", "wa", "in", "up", "sa", "heav", "dark", "ear", "day"};
  const char* ends[] = {"ture", "ving", "ginning", "ness", "ter", "deep", "on", "id", "en", "th", "s", "ed"};
  const char* marks[] = {" ", " ", " ", " and ", ", ", ".\n", ": the ", " "};
  Generator g{seed, 1, 0};
  std::string text;
  while (text.size() < n) text += std::string(begins[g.below(12)]) + ends[g.below(12)] + marks[g.below(8)];
  return text.substr(0, n);
}

// Skips the test case where there is no library to learn or read pieces.
inline bool without_pieces() {
  if (!have_sentencepiece()) skip("this build has no SentencePiece");
  return !have_sentencepiece();
}

}  // namespace rondo::testing
