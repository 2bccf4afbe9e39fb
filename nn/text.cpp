// Text files, plain or gzip-compressed, as bytes and tokens.
#include "nn/text.h"

#include <zlib.h>

#include <algorithm>
#include <string_view>

#include "nn/file.h"

namespace rondo {
namespace {

bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

struct Inflater {
  z_stream stream = {};
  Inflater() { check(inflateInit2(&stream, 15 + 16) == Z_OK, "zlib does not start"); }  // 16: with gzip's header
  ~Inflater() { inflateEnd(&stream); }
};

// Unpacks the gzip member at the front of `packed` onto the end of `text`; returns how many bytes it took.
size_t unpack_member(std::string_view packed, const std::string& path, std::string& text) {
  constexpr size_t kPiece = size_t{1} << 20;
  Inflater inflater;
  z_stream& z = inflater.stream;
  const char* const end = packed.data() + packed.size();
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  for (;;) {
    const size_t left = size_t(end - reinterpret_cast<char*>(z.next_in)), done = text.size();
    z.avail_in = uInt(std::min(left, kPiece));
    text.resize(done + kPiece);
    z.next_out = reinterpret_cast<Bytef*>(text.data() + done);
    z.avail_out = kPiece;
    const int result = inflate(&z, Z_NO_FLUSH);
    text.resize(done + kPiece - z.avail_out);
    if (result == Z_STREAM_END) return packed.size() - size_t(end - reinterpret_cast<char*>(z.next_in));
    check(result != Z_BUF_ERROR, path, ": the gzip data ends too early");
    check(result == Z_OK, path, ": the gzip data is corrupt (", z.msg ? z.msg : "zlib error", ")");
  }
}

std::string unpack(std::string_view packed, const std::string& path) {
  std::string text;
  while (is_gzip(packed)) packed.remove_prefix(unpack_member(packed, path, text));  // members may follow each other
  // Tapes and block devices pad with zeros.
  check(packed.find_first_not_of('\0') == packed.npos, path, ": the gzip data is corrupt (other bytes follow its end)");
  return text;
}

}  // namespace

std::string read_text(const std::vector<std::string>& files) {
  check(!files.empty(), "no text file is given");
  std::string all;
  for (const std::string& path : files) {
    std::string bytes = read_file(path);
    if (is_gzip(bytes)) bytes = unpack(bytes, path);
    check(!bytes.empty(), path, ": the file is empty");
    if (all.empty())
      all = std::move(bytes);
    else
      all += bytes;
  }
  return all;
}

Tensor tokens_of(std::string_view bytes, int64_t begin, int64_t n) {
  const int64_t size = int64_t(bytes.size());
  check(begin >= 0 && n >= 0 && begin <= size && n <= size - begin, "tokens_of: bytes ", begin, " to ", begin, " + ", n,
        " of a text of ", size);
  Tensor tokens({1, n}, DType::i64);
  int64_t* to = tokens.data<int64_t>();
  for (int64_t i = 0; i < n; ++i) to[i] = uint8_t(bytes[size_t(begin + i)]);
  return tokens;
}

}  // namespace rondo
