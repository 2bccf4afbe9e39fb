// Texts in tokens: bytes, and pieces of a vocabulary learned here.
#include "apps/tokenizer.h"

#include <optional>

#include "apps/text_stream.h"
#include "tensor/parallel.h"
#include "tests/fuzz/mutate.h"
#include "tests/testing.h"
#include "tests/words.h"

namespace rondo::testing {
namespace {

// What the tokens of a text stand for, one after the other.
std::string decoded(const Tokenizer& tokenizer, const Text& text) {
  std::string all;
  for (const int64_t token : text.row(0, text.size()).to_vector<int64_t>()) all += tokenizer.text_of(token);
  return all;
}

const std::string& vocabulary() {
  static const std::string model = learn_pieces(words(60000), 400);
  return model;
}

}  // namespace

TEST_CASE("a byte is a token") {
  const Tokenizer bytes(256);
  const Text text = bytes.encode(std::string("a\xff\0z", 4));
  CHECK(text.tokens.dtype() == DType::u8);
  CHECK(text.row(0, 4).to_vector<int64_t>() == std::vector<int64_t>{97, 255, 0, 122});
  CHECK(text.row(0, 4).shape() == Shape{1, 4});
  CHECK(text.row(3, 6).to_vector<int64_t>() == std::vector<int64_t>{122, 97, 255, 0, 122, 97});  // a ring
  CHECK(text.bytes() == 4);
  CHECK(text.bytes(1, 2) == 2);
  CHECK(text.within(1, 2) == 2);
  CHECK(text.within(1, 100) == 3);
  CHECK(decoded(bytes, text) == std::string("a\xff\0z", 4));
  CHECK(bytes.text_of(256) == "");
  CHECK(bytes.model() == "");
  const Text none = bytes.encode("");
  CHECK(none.size() == 0);
  CHECK(none.bytes() == 0);
  CHECK(none.row(0, 0).shape() == Shape{1, 0});
  CHECK(error_of([&] { none.row(0, 1); }) == "a row of 1 tokens from 0 on, of a text of 0");
  CHECK(error_of([&] { text.row(4, 1); }) == "a row of 1 tokens from 4 on, of a text of 4");
}

TEST_CASE("a byte that is no token") {
  Tokenizer(256).check_text("\xff", "the text");
  Tokenizer(99).check_text("ab", "the text");
  CHECK(error_of([] { Tokenizer(99).check_text("abc", "the text"); }) ==
        "the text: byte 99 at offset 2 is not in the model's vocabulary of 99 tokens (model.num_tokens)");
}

TEST_CASE("pieces are of text in UTF-8") {
  if (without_pieces()) return;
  const Tokenizer pieces(400, vocabulary(), "v");
  pieces.check_text("caf\xC3\xA9", "the text");
  CHECK(error_of([&] { pieces.check_text("caf\xE9", "the text"); }) ==
        "the text: no UTF-8 at offset 3, which pieces are made of; give a text in UTF-8");
  const Text latin = pieces.encode("caf\xE9 the");
  CHECK(latin.bytes() == 8);
  CHECK(decoded(pieces, latin) == "caf\uFFFD the");
}

TEST_CASE("pieces lose nothing of a text") {
  if (without_pieces()) return;
  const Tokenizer pieces(400, vocabulary(), "v");
  for (const std::string text :
       {"", "a", " ", "  two  spaces ", "\n", "\n\n lines\r\n\ttabs", "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80",
        "\x01\x7f", "in the beginning", "<0x41> <unk>"}) {
    const Text encoded = pieces.encode(text);
    CHECK(decoded(pieces, encoded) == text);
    CHECK(encoded.bytes() == int64_t(text.size()));
  }
  const Text euro = pieces.encode("x\xE2\x82\xAC\xE2\x82\xAC");
  CHECK(euro.lengths == std::vector<int32_t>(7, 1));  // bytes of characters, one by one
  const std::string text = words(3000, 6);
  const Text encoded = pieces.encode(text);
  CHECK(encoded.tokens.dtype() == DType::i32);
  CHECK(decoded(pieces, encoded) == text);
  CHECK(encoded.size() < int64_t(text.size()) / 2);  // pieces are longer than letters
  int64_t bytes = 0;
  for (int64_t i = 0; i < encoded.size(); ++i) {
    const std::string piece = pieces.text_of(encoded.row(i, 1).to_vector<int64_t>()[0]);
    REQUIRE(encoded.bytes(i, 1) == int64_t(piece.size()));
    CHECK(encoded.within(0, bytes) == i);
    bytes += int64_t(piece.size());
    CHECK(encoded.within(0, bytes - 1) == i);
    CHECK(encoded.bytes(0, i + 1) == bytes);
  }
  CHECK(encoded.within(0, bytes) == encoded.size());
  CHECK(encoded.within(encoded.size(), 5) == 0);
}

TEST_CASE("a long text is cut where it makes no difference, whatever the number of threads") {
  if (without_pieces()) return;
  const Tokenizer pieces(400, vocabulary(), "v");
  const std::string text = words(300000, 7);
  const SentencePiece library(vocabulary(), "v");
  const std::vector<int32_t> whole = library.encode(text).ids;
  const int before = num_threads();
  for (const int n : {1, 2, 3}) {
    set_num_threads(n);
    CHECK(pieces.encode(text).tokens.to_vector<int32_t>() == whole);
  }
  set_num_threads(before);
  // Without lines, and with characters of three bytes where a part would end.
  std::string euros = "x";
  while (euros.size() < 200000) euros += "\xE2\x82\xAC";
  CHECK(decoded(pieces, pieces.encode(euros)) == euros);
}

TEST_CASE("another's vocabulary: SentencePiece's defaults lose spaces, but no byte goes uncounted") {
  if (without_pieces()) return;
  const Tokenizer pieces(64, the_cat_sat(), "v");
  const std::string text = "  the cat \n\n sat  ";
  const Text encoded = pieces.encode(text);
  CHECK(decoded(pieces, encoded) == " the cat sat");
  CHECK(encoded.bytes() == int64_t(text.size()));
  CHECK(pieces.text_of(0) == "");  // <unk>
  CHECK(pieces.text_of(1) == "");  // <s>
  const Text unknown = pieces.encode("xyz the");
  CHECK(decoded(pieces, unknown) == "  the");
  CHECK(unknown.bytes() == 7);
  // A part of a long text that has no piece at all.
  const std::string gap = "the cat" + std::string(200000, ' ') + "sat";
  CHECK(pieces.encode(gap).bytes() == int64_t(gap.size()));
  CHECK(pieces.encode(std::string(200000, ' ') + "sat").bytes() == 200003);
  CHECK(pieces.encode(std::string(200000, ' ')).size() == 0);
  CHECK(pieces.encode("\n").size() == 0);
}

TEST_CASE("learning is the same each time and on any number of threads") {
  if (without_pieces()) return;
  const int before = num_threads();
  set_num_threads(1);
  CHECK(learn_pieces(words(60000), 400) == vocabulary());
  set_num_threads(before);
  // A line too long for the library is cut, not left out.
  std::string line = words(60000);
  for (char& c : line) c = c == '\n' ? ' ' : c;
  CHECK(Tokenizer(400, learn_pieces(line, 400), "v").encode(" lightness").size() == 1);
  std::string euros;
  for (int i = 0; i < 5000; ++i) euros += "\xE2\x82\xAC";
  const SentencePiece of_euros(learn_pieces(euros, 262), "v");
  for (int64_t id = 257; id < of_euros.size(); ++id) CHECK(of_euros.text_of(id).find("\uFFFD") == std::string::npos);
  const std::string one_word(50000, 'a');
  CHECK(SentencePiece(learn_pieces(one_word, 260), "v").size() == 260);
}

TEST_CASE("vocabularies that are wrong") {
  if (without_pieces()) return;
  CHECK(error_of([] { Tokenizer(399, vocabulary(), "some.model"); }) ==
        "some.model: a vocabulary of 400 pieces, but model.num_tokens is 399; make that 400 or more");
  for (const std::string& bad :
       {std::string(), std::string("text"), vocabulary().substr(0, 1000), std::string(1000, '\0')})
    CHECK(error_of([&] {
            Tokenizer(400, bad, "some.model");
          }).starts_with("some.model: not a vocabulary of SentencePiece: "));
  CHECK(error_of([] { learn_pieces("a few words", 4000); }) ==
        "this text has no more than 266 pieces, but 4000 are asked for");
  CHECK(error_of([] { learn_pieces("a few words", 100); }) ==
        "this text needs 266 pieces at least, for its characters, but 100 are asked for");
  CHECK(error_of([] { learn_pieces("", 300); }).starts_with("cannot learn 300 pieces from this text: "));
  CHECK(error_of([] { learn_pieces("\n\n", 300); }).starts_with("cannot learn 300 pieces from this text: "));
}

TEST_CASE("a damaged vocabulary is refused, or reads and writes all the same") {
  if (without_pieces()) return;
  int read = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const std::string damaged = fuzz::Mutator(seed)(vocabulary());
    std::optional<Tokenizer> pieces;
    const std::string error = error_of([&] { pieces.emplace(5000, damaged, "v"); });
    if (!pieces) {
      CHECK_MESSAGE(error.starts_with("v: "), seed, error);
      continue;
    }
    ++read;
    const std::string text = " the cat\n\xFF sat \xE2\x82\xAC";
    const Text encoded = pieces->encode(text);
    CHECK(encoded.bytes() == int64_t(text.size()));
    decoded(*pieces, encoded);
  }
  CHECK(read > 20);
  CHECK(read < 380);
}

TEST_CASE("pieces come out as whole characters, and end before a stop text that lies within one") {
  if (without_pieces()) return;
  const Tokenizer pieces(400, vocabulary(), "v");
  const auto streamed = [&](const std::string& text, const std::vector<std::string>& stops) {
    TextStream stream(pieces, stops);
    std::string all;
    for (const int64_t token : pieces.encode(text).tokens.to_vector<int32_t>()) {
      const std::string out = stream.push(token);
      CHECK(out.find("\uFFFD") == out.npos);
      all += out;
      if (stream.stopped()) return all + "|";
    }
    return all + stream.finish();
  };
  CHECK(streamed("the \xE2\x82\xAC lightness", {}) == "the \xE2\x82\xAC lightness");
  CHECK(pieces.encode(" lightness").size() == 1);  // the stop text below is not the end of a piece
  CHECK(streamed("the lightness and", {"htn"}) == "the lig|");
  CHECK(streamed("the lightness and", {"ss a"}) == "the lightne|");
  TextStream stream(pieces, {});
  CHECK(stream.push(399 + 1) == "\uFFFD");  // a token of the model that is no piece
}

}  // namespace rondo::testing
