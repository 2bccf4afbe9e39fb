// TensorBoard's files, read back by a reader of their own.
#include "apps/events.h"

#include <map>
#include <numbers>

#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

template <class T>
T take(std::string_view& bytes) {
  T x;
  REQUIRE(bytes.size() >= sizeof x);
  std::memcpy(&x, bytes.data(), sizeof x);
  bytes.remove_prefix(sizeof x);
  return x;
}

std::string_view take(std::string_view& bytes, size_t n) {
  REQUIRE(bytes.size() >= n);
  const std::string_view taken = bytes.substr(0, n);
  bytes.remove_prefix(n);
  return taken;
}

// Bit by bit, as the definition has it.
uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc;
}
void check_crc(std::string_view bytes, uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8;
  CHECK((rotated << 15 | rotated >> 17) == crc32c(bytes));
}

uint64_t varint(std::string_view& bytes) {
  uint64_t x = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<unsigned char>(bytes);
    x |= uint64_t(byte & 127) << shift;
    if (byte < 128) return x;
  }
}

// Of a message, each field's bytes; numbers as 8 bytes.
std::multimap<int, std::string> fields(std::string_view message) {
  std::multimap<int, std::string> all;
  while (!message.empty()) {
    const uint64_t key = varint(message);
    std::string value;
    if ((key & 7) == 0) {
      const uint64_t x = varint(message);
      value.assign(reinterpret_cast<const char*>(&x), sizeof x);
    } else {
      value = take(message, (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : varint(message));
    }
    all.emplace(int(key >> 3), value);
  }
  return all;
}

template <class T>
T number(const std::string& bytes) {
  std::string_view view = bytes;
  return take<T>(view);
}

std::string only(const std::multimap<int, std::string>& fields, int which) {
  REQUIRE(fields.count(which) == 1);
  return fields.find(which)->second;
}

struct Read {
  std::vector<std::string> events;  // what each says, beside its time
  double first_time = 0, last_time = 0;
};
Read read_events(const std::string& contents) {
  Read result;
  std::string_view bytes = contents;
  while (!bytes.empty()) {
    const std::string_view length = take(bytes, 8);
    check_crc(length, take<uint32_t>(bytes));
    const std::string_view event = take(bytes, size_t(number<uint64_t>(std::string(length))));
    check_crc(event, take<uint32_t>(bytes));
    const auto all = fields(event);
    result.last_time = number<double>(only(all, 1));
    if (result.events.empty()) result.first_time = result.last_time;
    std::string text = std::to_string(number<uint64_t>(only(all, 2)));
    if (all.count(3)) text += " version " + only(all, 3);
    if (all.count(7)) text += " session " + std::to_string(number<uint64_t>(only(fields(only(all, 7)), 1)));
    if (all.count(5)) {
      const auto values = fields(only(all, 5));
      for (const auto& [which, value] : values) {
        const auto scalar = fields(value);
        text += " " + only(scalar, 1) + "=" + std::to_string(number<float>(only(scalar, 2)));
      }
    }
    result.events.push_back(text);
  }
  return result;
}

}  // namespace

TEST_CASE("TensorBoard's files: checksums, versions, steps, values") {
  CHECK(crc32c("123456789") == 0xe3069283);                     // the published check value
  check_crc(std::string("\x18\0\0\0\0\0\0\0", 8), 0x224b7fa3);  // how files of TensorFlow begin
  const Temporary place;
  const std::string directory = place / "";
  {
    EventFile events(directory, 0);
    events.add({.step = 1,
                .loss = 2 * std::numbers::ln2,
                .bits_per_byte = 2,
                .learning_rate = 0.5,
                .grad_norm = 3,
                .tokens_per_s = 1000});
    events.add(1, {.nats = 3 * std::numbers::ln2, .bytes = 2});
  }
  EventFile(directory, 300).add({.step = 301});  // a run that goes on
  const std::vector<std::string> files = place.names();
  REQUIRE(files.size() == 2);
  const Read first = read_events(read_file(place / files[0])), second = read_events(read_file(place / files[1]));
  CHECK(first.events ==
        std::vector<std::string>{"0 version brain.Event:2", "1 session 1",
                                 "1 train/loss=1.386294 train/bits_per_byte=2.000000 train/learning_rate=0.500000 "
                                 "train/grad_norm=3.000000 train/tokens_per_s=1000.000000",
                                 "1 validation/bits_per_byte=1.500000"});
  CHECK(second.events[1] == "301 session 1");
  CHECK(second.events[2].starts_with("301 train/loss=0.000000 "));
  CHECK(first.first_time > 1.7e9);
  CHECK(first.last_time <= second.first_time);
  CHECK(files[0].starts_with("events.out.tfevents."));
}

TEST_CASE("TensorBoard's files where they cannot be") {
  CHECK(
      error_of([] { EventFile("/no/such/place", 0); }).starts_with("cannot write /no/such/place/events.out.tfevents."));
}

}  // namespace rondo::testing
