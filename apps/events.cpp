// TensorFlow's records of protocol buffers: u64 length | u32 masked CRC-32C of it | bytes | u32 masked CRC-32C of them.
#include "apps/events.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

namespace rondo {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
std::string bytes_of(T x) {
  return std::string(reinterpret_cast<const char*>(&x), sizeof x);
}

// ---- protocol buffers: a field is (number << 3 | kind), then a varint (kind 0), 8 bytes (1), 4 bytes (5), or a varint
// length and so many bytes (2) ----
std::string varint(uint64_t x) {
  std::string text;
  for (; x >= 128; x >>= 7) text += char(x | 128);
  return text + char(x);
}

std::string field(int number, std::string_view bytes) {
  return varint(uint64_t(number) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
std::string field(int number, uint64_t x) { return varint(uint64_t(number) << 3) + varint(x); }
std::string field(int number, double x) { return varint(uint64_t(number) << 3 | 1) + bytes_of(x); }
std::string field(int number, float x) { return varint(uint64_t(number) << 3 | 5) + bytes_of(x); }

// CRC-32C (Castagnoli's polynomial, reflected), rotated and offset as the format asks for.
uint32_t masked_crc(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t;
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82f63b78u : 0);
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (const unsigned char c : bytes) crc = crc >> 8 ^ table[(crc ^ c) & 255];
  return std::rotr(~crc, 15) + 0xa282ead8u;
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// TensorBoard reads the files of a directory in the order of their names.
std::string new_name() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return "events.out.tfevents." + std::to_string(int64_t(wall_time() * 1e6)) + "." + host + "." +
         std::to_string(getpid());
}

}  // namespace

EventFile::EventFile(const std::string& directory, int64_t step) : file_(directory + "/" + new_name()) {
  constexpr int file_version = 3, session_log = 7;
  constexpr uint64_t start = 1;
  write(0, field(file_version, "brain.Event:2"));
  write(step + 1, field(session_log, field(1, start)));
}

void EventFile::add(const StepRecord& r) {
  add(r.step, {{"train/loss", r.loss},
               {"train/bits_per_byte", r.bits_per_byte},
               {"train/learning_rate", r.learning_rate},
               {"train/grad_norm", r.grad_norm},
               {"train/tokens_per_s", r.tokens_per_s}});
}

void EventFile::add(int64_t step, const Evaluation& validation) {
  add(step, {{"validation/bits_per_byte", validation.bits_per_byte()}});
}

void EventFile::add(int64_t step, const Scalars& scalars) {
  constexpr int summary = 5, value = 1, tag = 1, simple_value = 2;
  std::string values;
  for (const auto& [name, x] : scalars) values += field(value, field(tag, name) + field(simple_value, float(x)));
  write(step, field(summary, values));
}

void EventFile::write(int64_t step, std::string_view what) {
  constexpr int time = 1, number = 2;
  const std::string event = field(time, wall_time()) + field(number, uint64_t(step)) + std::string(what);
  const std::string length = bytes_of(uint64_t(event.size()));
  file_.write(length + bytes_of(masked_crc(length)) + event + bytes_of(masked_crc(event)));
}

}  // namespace rondo
