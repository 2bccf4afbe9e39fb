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

// What "spm_train --vocab_size=40 --hard_vocab_limit=false --normalization_rule_name=identity" makes of "the cat sat on
// the mat": a space is added in front, and many are one.
std::string the_cat_sat() {
  const std::string hex =
      "0a0e0a053c756e6b3e150000000018020a0c0a033c733e150000000018030a0d0a043c2f733e150000000018030a0a0a03e2968115a0db"
      "9abf0a090a0261741566a4f5bf0a080a017415851414c00a080a01651593d114c00a080a01681593d114c00a080a016115edd142c00a08"
      "0a016315edd142c00a080a016d15edd142c00a080a016e15edd142c00a080a016f15edd142c00a080a017315edd142c012a0010a076361"
      "742e74787412036361741801200e30003a00553bdf7f3f580070c0843d7d0000403f8001108801029001e020980101a00110a80101b001"
      "01b80101c00100c80100d00100800201880200900200980200a20200c00200c80201d00202d802ffffffffffffffffff01e2020520e281"
      "8720ea02053c756e6b3ef202033c733efa02043c2f733e8203053c7061643e8803009003009d0300000000a003001a120a086964656e74"
      "6974791200180120013200";
  std::string model;
  for (size_t i = 0; i < hex.size(); i += 2) model += char(std::stoi(hex.substr(i, 2), nullptr, 16));
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
  CHECK(decoded(pieces, encoded) == " the cat  sat");
  CHECK(encoded.bytes() == int64_t(text.size()));
  CHECK(pieces.text_of(0) == "");  // <unk>
  CHECK(pieces.text_of(1) == "");  // <s>
  const Text unknown = pieces.encode("xyz the");
  CHECK(decoded(pieces, unknown) == "  the");
  CHECK(unknown.bytes() == 7);
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
  CHECK(error_of([] {
          learn_pieces("a few words", 4000);
        }).starts_with("cannot learn 4000 pieces from this text: Vocabulary size too high (4000)"));
  CHECK(error_of([] { learn_pieces("a few words", 100); }).starts_with("cannot learn 100 pieces from this text: "));
  CHECK(error_of([] { learn_pieces("", 300); }).starts_with("cannot learn 300 pieces from this text: "));
  CHECK(error_of([] { learn_pieces("\n\n", 300); }).starts_with("cannot learn 300 pieces from this text: "));
}

TEST_CASE("a damaged vocabulary is refused, or reads and writes all the same") {
  if (without_pieces()) return;
  int read = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const std::string damaged = fuzz::Mutator(seed)(seed % 2 ? the_cat_sat() : vocabulary());
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

TEST_CASE("a build without SentencePiece says so") {
  if (have_sentencepiece()) return skip("this build has SentencePiece");
  const std::string why =
      "this rondo was built without SentencePiece; build it again with libsentencepiece-dev installed";
  CHECK(error_of([] { Tokenizer(400, "x", "some.model"); }) == why);
  CHECK(error_of([] { learn_pieces("a few words", 300); }) == why);
}

}  // namespace rondo::testing
