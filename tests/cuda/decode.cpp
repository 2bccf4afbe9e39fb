// Decoding's attention on CUDA: what is cached at which row, and what a query sees of it.
#include <cmath>

#include "tests/cuda/compare.h"

namespace rondo::testing {
namespace {

constexpr int64_t kBatch = 3, kRows = 640;  // more than two chunks of keys

struct Decoding {
  int64_t heads, width, column = 0;
  bool scaled = false, turned = false, all = false;
  std::vector<CachePlace> keys = {}, replaced = {}, queries = {};
};

// Keys of three sequences, in no order: 600 of the first, 20 of the second, rows 250..299 of the third; two of them
// come in a second time.
Decoding places(int64_t heads, int64_t width) {
  Decoding how{.heads = heads, .width = width};
  for (int64_t i = 0; i < 600; ++i) how.keys.push_back({0, 0, i * 7 % 600 + 1});
  for (int64_t i = 0; i < 20; ++i) how.keys.push_back({1, 0, 20 - i});
  for (int64_t i = 250; i < 300; ++i) how.keys.push_back({2, 250, i + 1});
  how.replaced = {{2, 0, 256}, {0, 0, 1}};
  how.queries = {{0, 0, 600}, {0, 37, 600}, {1, 0, 20}, {1, 19, 20}, {0, 3, 259}, {0, 3, 260}, {2, 250, 300}};
  return how;
}

// What comes out of a cache; what else is in y's rows stays.
void check_decoding(const Decoding& how, DType d) {
  const int64_t D = how.width, n = int64_t(how.queries.size()), y_width = how.heads * D + 2 * how.column;
  const List in = {randn({int64_t(how.keys.size()), 2 * D}, d, 1),
                   randn({int64_t(how.replaced.size()), 2 * D}, d, 2),
                   randn({n, how.heads * D}, d, 3),
                   how.scaled ? randn({D}, d, 4) : Tensor(),
                   how.scaled ? randn({D}, d, 5) : Tensor(),
                   how.turned ? randn({2, kRows, D}, d, 6) : Tensor(),
                   randn({n, y_width}, d, 7),
                   tensor_of(how.keys),
                   tensor_of(how.replaced),
                   tensor_of(how.queries)};
  check_same("attention_decode", in, {in[6]}, tolerance_of(d), [&](auto device, const List& at, const List& out) {
    KeyValueCache cache = key_value_cache(device, kBatch, how.all ? 50 : kRows, D, d);
    cache.all = how.all;
    cache_keys(device, at[7], at[0], at[3], at[5], cache, {});
    cache_keys(device, at[8], at[1], at[3], at[5], cache, {});
    copy(device, at[6], out[0]);
    attention_decode(device, at[9], how.heads, {at[2], at[4], at[5], 1 / std::sqrt(double(D)), cache}, out[0],
                     how.column);
  });
}

}  // namespace

TEST_CASE("cuda decoding: scales, angles, heads and places") {
  for (DType d : kDTypes) {
    check_decoding(places(1, 1), d);
    check_decoding(places(2, 7), d);
    for (bool scaled : {false, true})
      for (bool turned : {false, true}) {
        Decoding how = places(3, scaled == turned ? 6 : scaled ? 32 : 66);
        how.scaled = scaled, how.turned = turned, how.column = 5;
        check_decoding(how, d);
      }
    // States: whatever a query's place says, it sees all of its sequence's rows.
    Decoding states{.heads = 2, .width = 6, .scaled = true, .all = true};
    for (int64_t i = 0; i < kBatch * 50; ++i) states.keys.push_back({i % kBatch, 0, i / kBatch + 1});
    states.queries = {{2, 7, 600}, {0, 0, 1}, {2, 3, 4}};
    check_decoding(states, d);
    Decoding nothing = places(2, 8);
    nothing.replaced.clear(), nothing.queries.clear();
    check_decoding(nothing, d);
    // Many, of one chunk and of more.
    Decoding many = places(2, 8);
    for (int64_t i = 0; i < 200; ++i) many.queries.push_back({0, i, i + 1 + i % 5 * 70});
    check_decoding(many, d);
  }
}

TEST_CASE("cuda decoding: keys and values are also kept as they came") {
  const CachePlace at[] = {{2, 0, 5}, {0, 3, 4}, {2, 1, 8}, {1, 0, 12}};
  for (DType d : kDTypes)
    for (int64_t width : {6, 7, 16})
      check_same("cache_keys", {randn({4, 2 * width}, d), randn({3, 4, 2 * width}, d, 2), tensor_of(at)},
                 {like({3, 4, 2 * width}, d)}, 0, [&](auto device, const List& in, const List& out) {
                   copy(device, in[1], out[0]);
                   cache_keys(device, in[2], in[0], {}, {}, key_value_cache(device, 3, 12, width, d), out[0]);
                 });
  const Tensor kv = tensor<double>({1, 2, 3, 4, 5, 6, 7, 8}, {4, 2}), raw = zeros({3, 4, 2}, DType::f64);
  cache_keys(Cpu{}, tensor_of(at), kv, {}, {}, key_value_cache(Cpu{}, 3, 12, 1, DType::f64), raw);
  CHECK(values(raw) == std::vector<double>{0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 7, 8, 1, 2, 0, 0, 0, 0, 5, 6});
}

TEST_CASE("cuda decoding: the product of attentions, of a window and of states beside it") {
  std::vector<CachePlace> keys;  // two chunks of states, of which the window's queries see one
  for (int64_t i = 0; i < 140; ++i) keys.push_back({i / 70, 0, i % 70 + 1});
  for (DType d : kDTypes)
    for (DType kept : {d, DType::bf16, DType::i8})
      for (int64_t n : {1, 2, 11})
        for (int64_t beside : {0, 1}) {
          if (kept != d && d == DType::f64) continue;
          const int64_t D = 6, HD = 2 * D, all = HD * (1 + beside), out_width = 5;
          const Tensor w({out_width, all}, DType::f32);
          for (int64_t i = 0; i < w.numel(); ++i) w.data<float>()[i] = float(i * 37 % 255 - 127);
          std::vector<CachePlace> places;
          for (int64_t i = 0; i < n; ++i) places.push_back(i % 2 ? CachePlace{1, i % 3, 3} : CachePlace{0, 0, 2});
          const List in = {randn({140, 2 * D}, d, 1),
                           randn({n, HD}, d, 2),
                           randn({n, HD}, d, 3),
                           randn({D}, d, 4),
                           to(w, kept),
                           randn({out_width}, d, 6),
                           randn({n, out_width}, d, 7),
                           tensor_of(keys),
                           tensor_of(places)};
          check_same("attention_gemv", in, {like({n, out_width}, d)}, 4 * tolerance_of(d),
                     [&](auto device, const List& at, const List& out) {
                       const Tensor none;
                       const KeyValueCache window = key_value_cache(device, 2, 200, D, d);
                       KeyValueCache states = key_value_cache(device, 2, 70, D, d);
                       states.all = true;
                       cache_keys(device, at[7], at[0], none, none, window, none);
                       cache_keys(device, at[7], at[0], at[3], none, states, none);
                       const Attended seen[] = {{at[1], none, none, 0.5, window}, {at[2], at[3], none, 0.7, states}};
                       attention_gemv(device, at[8], 2, std::span(seen).first(size_t(1 + beside)), {},
                                      {at[4], kept == DType::i8 ? at[5] : none, at[6], out[0]});
                     });
        }
}

TEST_CASE("cuda decoding: what tokens bring is seen by them, and kept") {
  struct Tokens {
    const char* what;
    std::vector<CachePlace> places;
  };
  const Tokens all[] = {{"one", {{1, 3, 71}}},
                        {"the first of a chunk", {{0, 10, 129}}},
                        {"the last of a chunk", {{0, 64, 128}}},
                        {"alone", {{2, 0, 1}}},
                        {"some of one sequence", {{1, 0, 71}, {1, 1, 72}, {1, 2, 73}}},
                        {"over the end of a chunk", {{0, 120, 127}, {0, 120, 128}, {0, 120, 129}, {0, 129, 130}}},
                        {"of several", {{2, 0, 1}, {0, 0, 71}, {1, 60, 71}, {2, 0, 2}, {0, 5, 72}}},
                        {"many", {}}};
  for (DType d : kDTypes)
    for (Tokens t : all)
      for (int64_t D : {6, 7, 16, 66, 220}) {  // the last is too wide to be made by each block, where there are many
        if (D == 220 && std::string(t.what) != "many") continue;
        if (t.places.empty())
          for (int64_t i = 0; i < 29; ++i) t.places.push_back({i % 2, i, 101 + i / 2});
        CAPTURE(t.what);
        const bool plain = D == 7;  // no scales, no table
        const int64_t n = int64_t(t.places.size()), HD = 2 * D, rows = 200;
        std::vector<CachePlace> keys;  // garbage where the tokens' own are to come, as after a rewind
        for (int64_t i = 0; i < 3 * rows; ++i) keys.push_back({i % 3, 0, i / 3 + 1});
        const List in = {randn({3 * rows, 2 * D}, d, 1),
                         randn({n, HD}, d, 2),
                         randn({n, 2 * D}, d, 3),
                         plain ? Tensor() : randn({D}, d, 4),
                         plain ? Tensor() : randn({D}, d, 5),
                         plain ? Tensor() : randn({2, rows, D}, d, 6),
                         randn({5, HD}, d, 7),
                         randn({3, 50, 2 * D}, d, 8),
                         tensor_of(keys),
                         tensor_of(t.places)};
        const auto decode = [&](bool apart) {
          return [&, apart](auto device, const List& at, const List& out) {
            const Tensor none;
            const KeyValueCache cache = key_value_cache(device, 3, rows, D, d);
            cache_keys(device, at[8], at[0], at[3], at[5], cache, {});
            copy(device, at[7], out[1]);
            const Attended seen[] = {{at[1], at[4], at[5], 0.5, cache}};
            const Brought brought = {at[2], at[3], out[1]};
            if (apart) cache_keys(device, at[9], brought.kv, brought.k_scale, at[5], cache, brought.raw);
            attention_gemv(device, at[9], 2, seen, apart ? Brought() : brought, {at[6], none, none, out[0]});
            // Once more: what was kept.
            attention_gemv(device, at[9], 2, seen, {}, {at[6], none, none, out[2]});
          };
        };
        const List out = {like({n, 5}, d), in[7], like({n, 5}, d)};
        check_same("attention_gemv with keys", in, out, 4 * tolerance_of(d), decode(false));
        const auto same = [&](auto device, Device where) {  // as by cache_keys before, to the bit
          const auto results = [&](bool apart) {
            List found;
            for (const Tensor& t : out) found.push_back(Tensor(t.shape(), t.dtype(), where));
            decode(apart)(device, on(where, in), found);
            return on(Device::cpu, found);
          };
          const List before = results(true), together = results(false);
          for (size_t i = 0; i < 3; ++i) CHECK(same_bits(before[i], together[i]));
          CHECK(same_bits(together[0], together[2]));
        };
        same(Cpu{}, Device::cpu);
        same(Cuda{}, Device::cuda);
      }
}

TEST_CASE("cuda decoding: a head of zeros") {
  const CachePlace place[] = {{0, 0, 1}};
  const Tensor kv = zeros({1, 8}, DType::f64), scale = randn({4});
  check_same("attention_decode of zeros", {kv, scale, zeros({1, 4}, DType::f64), tensor_of(place)},
             {like({1, 4}, DType::f64)}, 1e-13, [](auto device, const List& in, const List& out) {
               const KeyValueCache cache = key_value_cache(device, 1, 1, 4, DType::f64);
               cache_keys(device, in[3], in[0], in[1], {}, cache, {});
               attention_decode(device, in[3], 1, {in[2], in[1], {}, 1, cache}, out[0], 0);
             });
}

TEST_CASE("cuda decoding: a query has the same bits whatever stands beside it") {
  const Decoding how = places(2, 6);
  const int64_t n = int64_t(how.queries.size());
  const Tensor kv = randn({int64_t(how.keys.size()), 12}, DType::f32, 1), q = randn({n, 12}, DType::f32, 2);
  const KeyValueCache cache = key_value_cache(Cuda{}, kBatch, kRows, 6, DType::f32);
  cache_keys(Cuda{}, to(tensor_of(how.keys), Device::cuda), to(kv, Device::cuda), {}, {}, cache, {});
  const Tensor all({n, 12}, DType::f32, Device::cuda), one({1, 12}, DType::f32, Device::cuda);
  attention_decode(Cuda{}, to(tensor_of(how.queries), Device::cuda), 2, {to(q, Device::cuda), {}, {}, 0.5, cache}, all,
                   0);
  const Tensor together = to(all, Device::cpu);
  for (int64_t i = 0; i < n; ++i) {
    const Tensor query({1, 12}), expected({1, 12});
    copy_rows(Cpu{}, q, {i * 12, 12}, query, {0, 12}, 1, 12);
    copy_rows(Cpu{}, together, {i * 12, 12}, expected, {0, 12}, 1, 12);
    const Tensor place = to(tensor_of(std::span(&how.queries[size_t(i)], 1)), Device::cuda);
    attention_decode(Cuda{}, place, 2, {to(query, Device::cuda), {}, {}, 0.5, cache}, one, 0);
    CHECK(same_bits(to(one, Device::cpu), expected));
  }
}

}  // namespace rondo::testing
