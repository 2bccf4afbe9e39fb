// Text on its way to a terminal: whole characters only, and nothing of a stop text.
#include "apps/text_stream.h"

#include "tests/testing.h"

namespace rondo::testing {
namespace {

// What comes out after each byte, with | between the bytes.
std::string utf8_steps(const std::string& bytes) {
  Utf8Stream stream;
  std::string all;
  for (const char c : bytes) all += stream.push(static_cast<unsigned char>(c)) + "|";
  return all + stream.finish();
}

std::string stop_steps(const std::string& bytes, const std::vector<std::string>& stops) {
  StopStream stream(stops);
  std::string all;
  for (const char c : bytes) {
    all += stream.push(c) + "|";
    if (stream.stopped()) return all + ".";
  }
  return all + stream.finish();
}

}  // namespace

TEST_CASE("half a character waits for the other half") {
  CHECK(utf8_steps("a\xC3\xA9z") == "a||\xC3\xA9|z|");
  CHECK(utf8_steps("\xE2\x82\xAC") == "||\xE2\x82\xAC|");
  CHECK(utf8_steps("\xF0\x9F\x98\x80") == "|||\xF0\x9F\x98\x80|");
}

TEST_CASE("bytes that are no UTF-8 become U+FFFD") {
  CHECK(utf8_steps("\xFF") == "\uFFFD|");
  CHECK(utf8_steps("\x80z") == "\uFFFD|z|");
  CHECK(utf8_steps("\xC3z") == "|\uFFFDz|");
  CHECK(utf8_steps("\xE2\x82z") == "||\uFFFDz|");
  CHECK(utf8_steps("\xE2\x82\xC3\xA9") == "||\uFFFD|\xC3\xA9|");
  CHECK(utf8_steps("\xE2\x82") == "||\uFFFD");
  CHECK(utf8_steps("\xC0\xAF") == "\uFFFD|\uFFFD|");     // overlong
  CHECK(utf8_steps("\xE0\x80z") == "|\uFFFD\uFFFD|z|");  // overlong
  CHECK(utf8_steps("\xED\xA0z") == "|\uFFFD\uFFFD|z|");  // a surrogate
  CHECK(utf8_steps("\xF4\x90z") == "|\uFFFD\uFFFD|z|");  // above U+10FFFF
}

TEST_CASE("a text ends before its stop text, which may come in parts") {
  CHECK(stop_steps("one two", {}) == "o|n|e| |t|w|o|");
  CHECK(stop_steps("abcENDxyz", {"END"}) == "a|b|c||||.");
  CHECK(stop_steps("aENEND", {"END"}) == "a|||EN|||.");
  CHECK(stop_steps("aaab", {"aab"}) == "||a||.");
  CHECK(stop_steps("xE", {"END"}) == "x||E");
  CHECK(stop_steps("one;two", {"END", ";"}) == "o|n|e||.");
  CHECK(stop_steps("xab", {"b", "ab"}) == "x|||.");  // the first of those that end together
  CHECK(stop_steps("xab", {"ab", "b"}) == "x|||.");
}

}  // namespace rondo::testing
