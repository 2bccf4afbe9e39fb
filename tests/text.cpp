// Text: plain and gzip files, one after the other, and what can be wrong with them.
#include "nn/text.h"

#include <zlib.h>

#include "nn/file.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

std::string gzip(const std::string& text) {
  z_stream z = {};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = uInt(text.size());
  z.next_out = reinterpret_cast<Bytef*>(packed.data());
  z.avail_out = uInt(packed.size());
  deflate(&z, Z_FINISH);
  packed.resize(z.total_out);
  deflateEnd(&z);
  return packed;
}

// Numbers as text: more than one piece of unpacking.
std::string long_text() {
  std::string text;
  for (int i = 0; text.size() < 3'000'000; ++i) text += std::to_string(int64_t{i} * 7919) + " ";
  return text;
}

std::string error_of_bytes(const Temporary& place, const std::string& bytes) {
  write_file(place / "t", bytes);
  const std::string error = error_of([&] { read_text({place / "t"}); });
  return error.starts_with(place / "t") ? error.substr((place / "t").size()) : error;
}

}  // namespace

TEST_CASE("text: plain and gzip files, one after the other") {
  const Temporary place;
  const std::string text = long_text();
  write_file(place / "a", "plain\n");
  write_file(place / "b.gz", gzip(text));
  write_file(place / "c", gzip("one") + gzip("") + gzip("two"));  // members, as `cat a.gz b.gz` makes them
  write_file(place / "d", gzip("padded") + std::string(512, '\0'));
  write_file(place / "e", "\x1f");
  CHECK(read_text({place / "a"}) == "plain\n");
  CHECK(read_text({place / "b.gz"}) == text);
  CHECK(read_text({place / "c"}) == "onetwo");
  CHECK(read_text({place / "d"}) == "padded");
  CHECK(read_text({place / "e"}) == "\x1f");
  CHECK(read_text({place / "a", place / "c", place / "a"}) == "plain\nonetwoplain\n");
}

TEST_CASE("text: files that cannot be read") {
  const Temporary place;
  CHECK(error_of([&] { read_text({}); }) == "no text file is given");
  CHECK(error_of([&] { read_text({place / "a"}); }) == "cannot read " + (place / "a") + ": No such file or directory");
  CHECK(error_of([&] { read_text({place / ""}); }) == "cannot read " + (place / "") + ": Is a directory");
  CHECK(error_of_bytes(place, "") == ": the file is empty");
  CHECK(error_of_bytes(place, gzip("")) == ": the file is empty");
}

TEST_CASE("text: gzip data that end early or are corrupt") {
  const Temporary place;
  const std::string packed = gzip(long_text()), small = gzip("some text");
  for (const size_t n : {size_t{2}, size_t{9}, size_t{11}, small.size() - 8, small.size() - 1})
    CHECK(error_of_bytes(place, small.substr(0, n)) == ": the gzip data ends too early");
  CHECK(error_of_bytes(place, packed.substr(0, packed.size() / 2)) == ": the gzip data ends too early");
  CHECK(error_of_bytes(place, small + small.substr(0, 12)) == ": the gzip data ends too early");
  std::string bad = small;
  bad[bad.size() - 8] ^= 1;
  CHECK(error_of_bytes(place, bad) == ": the gzip data is corrupt (incorrect data check)");
  bad = small;
  bad[bad.size() - 1] ^= 1;
  CHECK(error_of_bytes(place, bad) == ": the gzip data is corrupt (incorrect length check)");
  bad = small;
  bad[2] = 7;
  CHECK(error_of_bytes(place, bad) == ": the gzip data is corrupt (unknown compression method)");
  bad = small;
  bad[10] = 7;
  CHECK(error_of_bytes(place, bad) == ": the gzip data is corrupt (invalid block type)");
  CHECK(error_of_bytes(place, small + "more") == ": the gzip data is corrupt (other bytes follow its end)");
}

TEST_CASE("text: bytes as tokens") {
  CHECK(tokens_of("a\xff").to_vector<int64_t>() == std::vector<int64_t>{97, 255});
  CHECK(tokens_of("abcd", 1, 2).to_vector<int64_t>() == std::vector<int64_t>{98, 99});
  CHECK(tokens_of("abcd", 1, 2).shape() == Shape{1, 2});
  CHECK(tokens_of("", 0, 0).shape() == Shape{1, 0});
  CHECK(error_of([&] { tokens_of("abcd", 3, 2); }) == "tokens_of: bytes 3 to 3 + 2 of a text of 4");
  CHECK(error_of([&] { tokens_of("abcd", -1, 2); }) == "tokens_of: bytes -1 to -1 + 2 of a text of 4");
  CHECK(error_of([&] { tokens_of("abcd", 1, INT64_MAX); }) ==
        "tokens_of: bytes 1 to 1 + 9223372036854775807 of a text of 4");
  CHECK(error_of([&] { tokens_of("abcd", 0, -1); }) == "tokens_of: bytes 0 to 0 + -1 of a text of 4");
}

}  // namespace rondo::testing
