// The safetensors reader against every rule of the format and every defect other readers shipped; the writer; loading.
#include "nn/safetensors.h"

#include "nn/utf8.h"
#include "tests/fuzz/mutate.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// A file: the length of the header, the header, the data.
std::string file_of(const std::string& header, const std::string& data = "") {
  const uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), 8) + header + data;
}
std::string entry(const char* type, const std::string& shape, const std::string& offsets) {
  return std::string("{\"dtype\":\"") + type + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]}";
}
std::string header_of(const char* type, const std::string& shape, const std::string& offsets) {
  return "{\"a\":" + entry(type, shape, offsets) + "}";
}

SafetensorsFile parse(const std::string& file) { return parse_safetensors(file.data(), file.size(), "f"); }
std::string error_of_file(const std::string& file) {
  return error_of([&] { parse(file); });
}
std::string error_of_header(const std::string& header, const std::string& data = "") {
  return error_of_file(file_of(header, data));
}
std::string error_of_tensor(const char* type, const std::string& shape, const std::string& offsets, size_t n_data) {
  return error_of_header(header_of(type, shape, offsets), std::string(n_data, '\1'));
}

// The elements of the only tensor of a file.
std::vector<double> read(const char* type, const std::string& data, size_t n) {
  const auto file = parse(file_of(header_of(type, std::to_string(n), "0," + std::to_string(data.size())), data));
  return values(file.tensors.at("a"));
}

template <class T>
std::string bytes_of(std::vector<T> x) {
  return {reinterpret_cast<const char*>(x.data()), x.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("safetensors: the length of the header") {
  CHECK(error_of_file("") == "f: the file has 0 bytes, but the length of the header takes 8");
  CHECK(error_of_file("1234567") == "f: the file has 7 bytes, but the length of the header takes 8");
  CHECK(error_of_file(bytes_of<uint64_t>({100'000'001})) ==
        "f: the header has 100000001 bytes, but 100000000 is the most; is this a safetensors file?");
  CHECK(error_of_file(bytes_of<uint64_t>({100'000'000})) ==
        "f: the header ends at byte 100000008, but the file has 8 bytes");
  CHECK(error_of_file(bytes_of<uint64_t>({3}) + "{}") == "f: the header ends at byte 11, but the file has 10 bytes");
  // fastllm#712: a length near 2^64 that wraps when 8 is added
  CHECK(error_of_file(bytes_of<uint64_t>({~uint64_t{0}}) + "{}") ==
        "f: the header has 18446744073709551615 bytes, but 100000000 is the most; is this a safetensors file?");
  CHECK(error_of_file(bytes_of<uint64_t>({uint64_t(-8)}) + "{}") ==
        "f: the header has 18446744073709551608 bytes, but 100000000 is the most; is this a safetensors file?");
}

TEST_CASE("safetensors: the header is UTF-8") {
  CHECK(error_of_header("{\"\xff\":1}") == "f: the header is not UTF-8: error at byte 2");
  CHECK(error_of_header("not JSON \xc0\x80") == "f: the header is not UTF-8: error at byte 9");  // before JSON
  for (const char* bad : {"\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc3\x28", "\xe2\x28\xa1"})
    CHECK(first_not_utf8(std::string("ab") + bad) == 2);
  for (const char* good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "gr\xc3\xbc\xc3\x9f"})
    CHECK(first_not_utf8(good) == -1);
}

TEST_CASE("safetensors: the header is JSON") {
  CHECK(error_of_header("") == "f: the header does not start with {");
  CHECK(error_of_header(" {}") == "f: the header does not start with {");
  CHECK(error_of_header("[]") == "f: the header does not start with {");
  CHECK(error_of_header("\xef\xbb\xbf{}") == "f: the header does not start with {");
  CHECK(error_of_header("{") == "f: the header is not JSON: error near byte 2");
  CHECK(error_of_header("{}{}") == "f: the header is not JSON: error near byte 3");
  CHECK(error_of_header("{}//") == "f: the header is not JSON: error near byte 3");
  CHECK(error_of_header("{\"a\":1e999}") == "f: the header is not JSON: error near byte 10");
  CHECK(error_of_header("{\"\\ud800\":{}}") == "f: the header is not JSON: error near byte 9");
  // The parser takes a zero byte for the end: what follows would go unseen.
  CHECK(error_of_header(std::string("{}\0{", 4)) == "f: the header is not JSON: error near byte 2");
  CHECK(parse(file_of("{}    ")).tensors.empty());
}

TEST_CASE("safetensors: brackets nested a million deep are one clear line") {
  const std::string brackets(1'000'000, '['), objects(1'000'000, '{');
  CHECK(error_of_header("{\"a\":" + brackets) == "f: tensor \"a\" is not an object");
  CHECK(error_of_header("{\"__metadata__\":" + brackets) == "f: __metadata__ is not an object");
  CHECK(error_of_header(objects) == "f: the header is not JSON: error near byte 2");
  std::string nested = "{";
  for (int i = 0; i < 100'000; ++i) nested += "\"shape\":{";
  CHECK(error_of_header(nested) == "f: tensor \"shape\": shape is not a list");
}

TEST_CASE("safetensors: what a header may hold") {
  CHECK(error_of_header("{\"a\":null}") == "f: tensor \"a\" is not an object");
  CHECK(error_of_header("{\"a\":3}") == "f: tensor \"a\" is not an object");
  CHECK(error_of_header("{\"a\":{}}") == "f: tensor \"a\" has no dtype");
  CHECK(error_of_header("{\"a\":{\"dtype\":\"F32\"}}") == "f: tensor \"a\" has no shape");
  CHECK(error_of_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}") == "f: tensor \"a\" has no data_offsets");
  CHECK(error_of_header("{\"a\":{\"dtype\":32}}") == "f: tensor \"a\": dtype is not a string");
  CHECK(error_of_header("{\"a\":{\"dtype\":null}}") == "f: tensor \"a\": dtype is not a string");
  CHECK(error_of_header("{\"a\":{\"shape\":2}}") == "f: tensor \"a\": shape is not a list");
  CHECK(error_of_header("{\"a\":{\"shape\":true}}") == "f: tensor \"a\": shape is not a list");
  CHECK(error_of_header("{\"a\":{\"data_offsets\":\"0\"}}") == "f: tensor \"a\": data_offsets is not a list");
  CHECK(error_of_header("{\"a\":{\"bytes\":2}}") == "f: tensor \"a\" has an unknown field \"bytes\"");
  const std::string not_whole = "f: tensor \"a\": shape is not a list of whole numbers >= 0";
  for (const char* shape : {"-1", "2,-0", "1.0", "1e3", "\"2\"", "[2]", "{}", "null", "18446744073709551616"})
    CHECK(error_of_tensor("U8", shape, "0,1", 1) == not_whole);  // negative ones among them
  const std::string not_two = "f: tensor \"a\": data_offsets is not a list of two whole numbers >= 0";
  for (const char* offsets : {"", "0", "0,1,2", "-1,0", "0,1.0", "0,\"1\"", "0,[1]", "null,1"})
    CHECK(error_of_tensor("U8", "1", offsets, 1) == not_two);
}

TEST_CASE("safetensors: no name comes twice") {
  const std::string a = "\"a\":" + entry("U8", "", "0,1");
  CHECK(error_of_header("{" + a + "," + a + "}", "x") == "f: the header has the name \"a\" twice");
  CHECK(error_of_header("{\"\\u0061\":" + entry("U8", "", "0,1") + "," + a + "}", "x") ==
        "f: the header has the name \"a\" twice");
  CHECK(error_of_header("{\"__metadata__\":{},\"__metadata__\":{}}") ==
        "f: the header has the name \"__metadata__\" twice");
  CHECK(error_of_header("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}") == "f: __metadata__ has the name \"k\" twice");
  CHECK(error_of_header("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}") == "f: tensor \"a\" has two fields \"dtype\"");
}

TEST_CASE("safetensors: metadata") {
  CHECK(parse(file_of("{}")).metadata.empty());
  CHECK(parse(file_of("{\"__metadata__\":null}")).metadata.empty());
  CHECK(parse(file_of("{\"__metadata__\":{}}")).metadata.empty());  // fastsafetensors#89: empty metadata
  const auto file =
      parse(file_of("{\"__metadata__\":{\"format\":\"pt\",\"n\":\"\\u00fc\\n\"}}"));  // safetensors#466: nothing else
  CHECK(file.tensors.empty());
  CHECK(file.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"n", "\xc3\xbc\n"}});
  CHECK(error_of_header("{\"__metadata__\":[]}") == "f: __metadata__ is not an object");
  CHECK(error_of_header("{\"__metadata__\":\"pt\"}") == "f: __metadata__ is not an object");
  for (const char* value : {"1", "null", "true", "1.5", "{}", "[]", "-1"})
    CHECK(error_of_header(std::string("{\"__metadata__\":{\"k\":") + value + "}}") ==
          "f: __metadata__ has a value that is not a string, of \"k\"");
}

TEST_CASE("safetensors: the data have no holes, no overlaps, and end with the file") {
  const auto two = [](const char* first, const char* second, size_t n) {
    return error_of_header("{\"a\":" + entry("U8", "2", first) + ",\"b\":" + entry("U8", "2", second) + "}",
                           std::string(n, 'x'));
  };
  CHECK(two("0,2", "2,4", 4) == "(no error)");
  CHECK(two("2,4", "0,2", 4) == "(no error)");
  CHECK(two("0,2", "3,5", 5) == "f: tensor \"b\" begins at byte 3 of the data, but what is before it ends at byte 2");
  CHECK(two("0,2", "1,3", 3) == "f: tensor \"b\" begins at byte 1 of the data, but what is before it ends at byte 2");
  CHECK(two("0,2", "0,2", 2) == "f: tensor \"b\" begins at byte 0 of the data, but what is before it ends at byte 2");
  CHECK(two("1,3", "3,5", 5) == "f: tensor \"a\" begins at byte 1 of the data, but what is before it ends at byte 0");
  CHECK(two("0,2", "2,1", 2) == "f: tensor \"b\" begins at byte 2 of the data, but ends at byte 1");
  CHECK(two("0,2", "2,4", 5) == "f: the tensors end at byte 4 of the data, but the file has 5 bytes of it");
  // mlx#3409, stable-diffusion.cpp#1754: offsets past the end
  CHECK(two("0,2", "2,4", 3) == "f: the tensors end at byte 4 of the data, but the file has 3 bytes of it");
  CHECK(error_of_tensor("U8", "1000000000000", "0,1000000000000", 1) ==
        "f: the tensors end at byte 1000000000000 of the data, but the file has 1 bytes of it");
  CHECK(error_of_tensor("U8", "1", "18446744073709551615,18446744073709551616", 1) ==
        "f: tensor \"a\": data_offsets is not a list of two whole numbers >= 0");
  CHECK(error_of_tensor("U8", "1", "18446744073709551615,0", 1) ==
        "f: tensor \"a\" begins at byte 18446744073709551615 of the data, but what is before it ends at byte 0");
  CHECK(error_of_header("{}", "x") == "f: the tensors end at byte 0 of the data, but the file has 1 bytes of it");
}

TEST_CASE("safetensors: the bytes of a tensor are those of its shape") {
  CHECK(error_of_tensor("F32", "2,3", "0,20", 20) ==
        "f: tensor \"a\" of F32 (2, 3) needs 24 bytes, but its data_offsets 0 and 20 give it 20");
  CHECK(error_of_tensor("F32", "", "0,0", 0) ==
        "f: tensor \"a\" of F32 () needs 4 bytes, but its data_offsets 0 and 0 give it 0");
  CHECK(error_of_tensor("BF16", "0,3", "0,2", 2) ==
        "f: tensor \"a\" of BF16 (0, 3) needs 0 bytes, but its data_offsets 0 and 2 give it 2");
  // LiteRT#9255: products that wrap, to 0 above all
  CHECK(error_of_tensor("U8", "4294967296,4294967296", "0,0", 0) ==
        "f: tensor \"a\" has more elements than can be counted, its shape is (4294967296, 4294967296)");
  CHECK(error_of_tensor("F32", "4611686018427387904", "0,0", 0) ==  // 2^62 * 4 = 2^64
        "f: tensor \"a\" has more elements than can be counted, its shape is (4611686018427387904)");
  CHECK(error_of_tensor("U8", "9223372036854775808", "0,0", 0) ==
        "f: tensor \"a\" has more elements than can be counted, its shape is (9223372036854775807)");
  CHECK(error_of_tensor("U8", "4294967296,4294967296,0", "0,0", 0) ==
        "f: tensor \"a\" has more elements than can be counted, its shape is (4294967296, 4294967296, 0)");
}

TEST_CASE("safetensors: shapes") {
  CHECK(parse(file_of(header_of("U8", "", "0,1"), "x")).tensors.at("a").shape() == Shape{});
  CHECK(parse(file_of(header_of("F32", "3,0,2", "0,0"))).tensors.at("a").shape() == Shape{3, 0, 2});
  CHECK(parse(file_of(header_of("U8", "1,1,2,1,1,1", "0,2"), "xy")).tensors.at("a").shape() == Shape{1, 1, 2, 1, 1, 1});
  CHECK(error_of_tensor("U8", "1,1,2,1,1,1,1", "0,2", 2) == "f: tensor \"a\" has 7 dimensions, but 6 is the most");
  CHECK(error_of_tensor("U8", "1,1,2,1,1,1,2", "0,2", 2) ==  // the dimensions past the sixth count
        "f: tensor \"a\" of U8 (1, 1, 2, 1, 1, 1, ...) needs 4 bytes, but its data_offsets 0 and 2 give it 2");
}

TEST_CASE("safetensors: types") {
  CHECK(read("F32", bytes_of<float>({1.5f, -2}), 2) == std::vector<double>{1.5, -2});
  CHECK(read("F64", bytes_of<double>({1e300}), 1) == std::vector<double>{1e300});
  CHECK(read("BF16", bytes_of<uint16_t>({0x3f80, 0xc000}), 2) == std::vector<double>{1, -2});
  CHECK(read("I64", bytes_of<int64_t>({-(int64_t{1} << 40)}), 1) == std::vector<double>{-1099511627776.0});
  CHECK(read("I32", bytes_of<int32_t>({-7}), 1) == std::vector<double>{-7});
  CHECK(read("U8", "\xff", 1) == std::vector<double>{255});
  CHECK(read("BOOL", std::string("\1\0", 2), 2) == std::vector<double>{1, 0});
  CHECK(read("I8", "\xff\x7f", 2) == std::vector<double>{-1, 127});
  CHECK(read("I16", bytes_of<int16_t>({-32768}), 1) == std::vector<double>{-32768});
  CHECK(read("U16", bytes_of<uint16_t>({65535}), 1) == std::vector<double>{65535});
  CHECK(read("U32", bytes_of<uint32_t>({4294967295u}), 1) == std::vector<double>{4294967295.0});
  CHECK(read("U64", bytes_of<uint64_t>({uint64_t{1} << 62}), 1) == std::vector<double>{4611686018427387904.0});
  CHECK(error_of_header(header_of("U64", "2", "0,16"), bytes_of<uint64_t>({1, uint64_t{1} << 63})) ==
        "f: tensor \"a\" of U64: element 1 does not fit i64");
  // F16: one, the largest, the smallest normal, the smallest of all, -0, infinity, NaN
  const std::vector<double> half =
      read("F16", bytes_of<uint16_t>({0x3c00, 0x7bff, 0x0400, 0x0001, 0x8000, 0xfc00, 0x7e01}), 7);
  CHECK(std::vector<double>(half.begin(), half.begin() + 6) ==
        std::vector<double>{1, 65504, 0x1p-14, 0x1p-24, 0, -INFINITY});
  CHECK(std::signbit(half[4]));
  CHECK(std::isnan(half[6]));
  const std::vector<std::pair<const char*, DType>> types = {
      {"F32", DType::f32}, {"F64", DType::f64}, {"BF16", DType::bf16}, {"F16", DType::f32}, {"BOOL", DType::u8},
      {"U8", DType::u8},   {"I8", DType::i8},   {"I16", DType::i32},   {"U16", DType::i32}, {"I32", DType::i32},
      {"U32", DType::i64}, {"I64", DType::i64}, {"U64", DType::i64}};
  for (const auto& [name, dtype] : types)
    CHECK(parse(file_of(header_of(name, "0", "0,0"))).tensors.at("a").dtype() == dtype);
}

TEST_CASE("safetensors: a type that cannot be read does not hide other errors") {
  CHECK(error_of_tensor("F8_E4M3", "2", "0,2", 2) == "f: tensor \"a\" is of type \"F8_E4M3\", which cannot be read");
  CHECK(error_of_tensor("F8_E4M3", "2", "0,3", 3) ==
        "f: tensor \"a\" of F8_E4M3 (2) needs 2 bytes, but its data_offsets 0 and 3 give it 3");
  CHECK(error_of_tensor("Q4\\n", "2", "0,1", 1) == "f: tensor \"a\" is of type \"Q4\\x0a\", which cannot be read");
  CHECK(error_of_tensor("Q4", "2", "1,2", 2) ==
        "f: tensor \"a\" begins at byte 1 of the data, but what is before it ends at byte 0");
  CHECK(error_of_tensor("Q4", "2", "0,1", 2) ==
        "f: the tensors end at byte 1 of the data, but the file has 2 bytes of it");
  CHECK(error_of_tensor("Q4", "4294967296,4294967296", "0,1", 1) ==
        "f: tensor \"a\" has more elements than can be counted, its shape is (4294967296, 4294967296)");
}

TEST_CASE("safetensors: names in messages are short and on one line") {
  const std::string long_name(5000, 'x');
  CHECK(error_of_header("{\"" + long_name + "\":1}") ==
        "f: tensor \"" + std::string(100, 'x') + "...\" is not an object");
  CHECK(error_of_header("{\"a\\nb\\u0000\\u007f\":1}") == "f: tensor \"a\\x0ab\\x00\\x7f\" is not an object");
  CHECK(in_quotes(std::string(99, 'x') + "\xc3\xbc" + "y") == "\"" + std::string(99, 'x') + "...\"");
}

TEST_CASE("safetensors: a million tensors") {
  constexpr int kMany = 1'000'000;
  std::string header = "{";
  for (int i = 0; i < kMany; ++i) header += (i ? ",\"" : "\"") + std::to_string(i) + "\":" + entry("F32", "0", "0,0");
  const auto file = parse(file_of(header + "}"));
  CHECK(file.tensors.size() == kMany);
}

TEST_CASE("safetensors: mutations of a valid file are read or refused") {
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"},\"a.b\":" + entry("F32", "2,1", "0,8") +
                             ",\"c\":" + entry("F16", "2", "8,12") + ",\"d\":" + entry("U64", "0,3", "12,12") + "}   ";
  const std::string data(12, '\2');
  int read = 0, refused = 0;
  fuzz::Mutator mutator(7);
  for (int i = 0; i < 5000; ++i) {
    // Every other time the length still fits, so that the mutation reaches the parser.
    const std::string file = i % 2 ? mutator(file_of(header, data)) : file_of(mutator(header), data);
    const std::string error = error_of_file(file);
    ++(error == "(no error)" ? read : refused);
    if (error != "(no error)" && (error.find('\n') != error.npos || !error.starts_with("f: "))) FAIL_CHECK(error);
  }
  CHECK(read > 50);
  CHECK(refused > 2000);
}

}  // namespace rondo::testing
