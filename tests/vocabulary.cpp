// The program with word pieces: learned, trained on, evaluated and written, all from the run alone.
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/corpus.h"
#include "tests/program.h"
#include "tests/words.h"

namespace rondo::testing {
namespace {

struct PiecesWorkplace : Workplace {
  std::string file = *this / "words.model";
  PiecesWorkplace() {
    write_file(text, words(60000));
    REQUIRE(run_program({"vocabulary", "--data", text, "--size", "400", "--out", file}).code == 0);
  }
  Arguments train_pieces(const std::string& run, int steps, const Arguments& more = {}) const {
    return train(run, steps,
                 Arguments{"--set", "data.vocabulary=" + file, "--set", "model.num_tokens=400", "--set",
                           "optimizer.learning_rate=0.01", "--set", "train.checkpoint_every=20"} +
                     more);
  }
};

nlohmann::json last_line(const std::string& text) {
  std::istringstream lines(text);
  std::string last;
  for (std::string line; std::getline(lines, line);) last = line;
  return nlohmann::json::parse(last);
}

}  // namespace

TEST_CASE("a run with a vocabulary has all it needs, and goes on to the bit") {
  if (without_pieces()) return;
  const PiecesWorkplace work;
  for (const char* order : {"random", "document"}) {
    const Arguments how = {"--set", std::string("train.order=") + order};
    const std::string whole = std::string("whole-") + order, parts = std::string("parts-") + order;
    const Outcome o = run_program(work.train_pieces(whole, 60, how));
    CHECK(o.code == 0);
    CHECK(o.out.find(" bytes to train on, 3000 to validate on (") != o.out.npos);
    REQUIRE(run_program(work.train_pieces(parts, 20, how)).code == 0);
    std::filesystem::rename(work.file, work / "elsewhere");
    CHECK(run_program(work.resume(parts, 60)).code == 0);
    std::filesystem::rename(work / "elsewhere", work.file);
    CHECK(metrics_of(work / whole) == metrics_of(work / parts));
    for (const char* name : {"model.safetensors", "optimizer.safetensors", "vocabulary.model"})
      CHECK(read_file(work.checkpoint(whole, "00000060") + "/" + name) ==
            read_file(work.checkpoint(parts, "00000060") + "/" + name));
  }
  CHECK(read_file(work.checkpoint("whole-random", "00000060") + "/vocabulary.model") == read_file(work.file));
}

TEST_CASE("bits per byte are those of the text's bytes, whatever its tokens") {
  if (without_pieces()) return;
  const PiecesWorkplace work;
  REQUIRE(run_program(work.train_pieces("run", 120)).code == 0);
  const Outcome o = run_program({"eval", work / "run", "--json"});
  REQUIRE(o.code == 0);
  const nlohmann::json e = nlohmann::json::parse(o.out);
  CHECK(double(e["bits_per_byte"]) * double(e["bytes"]) ==
        doctest::Approx(double(e["bits_per_token"]) * double(e["tokens"])));
  CHECK(int64_t(e["bytes"]) > 2980);  // all but the first piece's
  CHECK(int64_t(e["bytes"]) < 3000);
  CHECK(int64_t(e["tokens"]) < 1500);
  CHECK(double(e["bits_per_byte"]) < 2.5);  // 8.6 bits a token without learning

  // The run's own validation, and the text given as a file, say the same.
  write_file(work / "rest.txt", words(60000).substr(57000));
  const Outcome given = run_program({"eval", work / "run", "--json", "--data", work / "rest.txt"});
  CHECK(nlohmann::json::parse(given.out)["bits_per_byte"] == e["bits_per_byte"]);
  std::ifstream metrics(work / "run/metrics.jsonl");
  nlohmann::json last, step;
  for (std::string line; std::getline(metrics, line); last = nlohmann::json::parse(line))
    if (last.contains("loss")) step = last;
  CHECK(last["validation_bits_per_byte"] == e["bits_per_byte"]);
  CHECK(double(step["bits_per_byte"]) < double(step["loss"]) / std::log(2) / 2);  // a token has more than two bytes

  const nlohmann::json few = last_line(run_program({"eval", work / "run", "--bytes", "100", "--json"}).out);
  CHECK(int64_t(few["bytes"]) <= 100);
  CHECK(int64_t(few["bytes"]) > 80);
  // The next piece has ten bytes.
  write_file(work / "long.txt", " lightness lightness lightness");
  const Arguments one_byte = {"eval", work / "run", "--data", work / "long.txt", "--bytes", "1", "--json"};
  CHECK(last_line(run_program(one_byte).out)["tokens"] == 1);
  CHECK(last_line(run_program(one_byte).out)["bytes"] == 10);
}

TEST_CASE("a text is split between characters") {
  if (without_pieces()) return;
  const PiecesWorkplace work;
  RunConfig config;
  config.model.num_tokens = 400;
  config.data.vocabulary = work.file;
  config.data.files = {work / "euros.txt"};
  config.data.validation_fraction = 0.45;
  std::string euros;
  for (int i = 0; i < 10; ++i) euros += "\xE2\x82\xAC";
  write_file(config.data.files[0], euros);
  const Tokenizer pieces = tokenizer_of(config, "");
  const Corpus corpus = read_corpus(config, pieces);
  CHECK(corpus.train.bytes() == 18);  // 16 would be within a character
  CHECK(corpus.validation.bytes() == 12);
  config.data.vocabulary = "";
  CHECK(read_corpus(config, Tokenizer(256)).train.bytes() == 16);
}

TEST_CASE("bytes of a character count one by one, and another's vocabulary may drop lines") {
  if (without_pieces()) return;
  const PiecesWorkplace work;
  REQUIRE(run_program(work.train_pieces("run", 1)).code == 0);
  write_file(work / "euros.txt", "a\xE2\x82\xAC\xE2\x82\xAC the");
  const auto predicted = [&](const char* bytes) {
    return last_line(run_program({"eval", work / "run", "--data", work / "euros.txt", "--bytes", bytes, "--json"}).out);
  };
  CHECK(predicted("1")["bytes"] == 1);
  CHECK(predicted("4")["bytes"] == 4);
  CHECK(predicted("4")["tokens"] == 4);

  const std::string theirs = work / "theirs.model";
  write_file(theirs, the_cat_sat());
  const Arguments how = {"--set", "data.vocabulary=" + theirs};
  REQUIRE(run_program(work.train_pieces("theirs", 1, how)).code == 0);
  CHECK(complaint({"generate", work / "theirs"}) ==
        "2 rondo: the default prompt is a line's end, which this run's vocabulary drops; give --prompt\n");
  CHECK(complaint({"chat", work / "theirs"}) ==
        "2 rondo: an answer ends at a line's end, which this run's vocabulary drops; say with --stop where it ends\n");
  CHECK(complaint({"generate", work / "theirs", "--prompt", "  ", "--seed", "1"}) ==
        "1 rondo: the prompt: the vocabulary drops all of it; give other text\n");
  write_file(work.text, words(57000) + std::string(3000, ' '));
  CHECK(complaint(work.train_pieces("spaces", 1, how)) ==
        "1 rondo: the text to validate on has 0 tokens, but predicting needs at least 2; give more text, or set "
        "data.validation_fraction = 0\n");
}

TEST_CASE("pieces are written as text, and its probabilities are those that eval tells") {
  if (without_pieces()) return;
  const PiecesWorkplace work;
  REQUIRE(run_program(work.train_pieces("run", 60)).code == 0);
  const Arguments how = {"generate", work / "run", "--prompt", "the light", "--length", "40", "--seed", "4"};
  const Outcome plain = run_program(how), lines = run_program(how + Arguments{"--json"});
  REQUIRE(plain.code == 0);
  CHECK(plain.out.size() > 60);
  const nlohmann::json whole = last_line(lines.out);
  CHECK(whole["text"] == plain.out);
  CHECK(whole["tokens"] == 40);
  std::string pieces;
  std::istringstream each(lines.out);
  for (std::string line; std::getline(each, line);)
    if (const auto j = nlohmann::json::parse(line); j.contains("token")) pieces += j["text"].get<std::string>();
  CHECK(pieces == plain.out);
  CHECK(run_program(how + Arguments{"--speculate", "5"}).out == plain.out);

  // In two goes, with a state between.
  const Arguments begin = {"generate", work / "run", "--prompt", "the light", "--length", "15", "--seed", "4"};
  const std::string first = run_program(begin + Arguments{"--save-state", work / "state"}).out;
  const Arguments rest = {"generate", work / "run", "--state", work / "state", "--length", "25", "--seed", "4"};
  CHECK(first + run_program(rest).out == plain.out);

  // What another dtype's checkpoint writes with is its own copy.
  REQUIRE(run_program({"convert", work / "run", "--dtype", "bf16", "--out", work / "bf16"}).code == 0);
  CHECK(read_file(work / "bf16/vocabulary.model") == read_file(work.file));
  const Outcome one = run_program({"convert", work / "run", "--dtype", "int8", "--out", work / "int8", "--bytes", "1"});
  CHECK(one.code == 0);
  CHECK(one.out.find(" bytes; ") != one.out.npos);
  CHECK(std::stoi(one.out.substr(one.out.find(", over ") + 7)) < 20);  // one piece, not the whole text
  CHECK(run_program({"generate", work / "bf16", "--prompt", "the light", "--length", "40", "--seed", "4"}).code == 0);

  const Outcome chat =
      run_program({"chat", work / "run", "--length", "10", "--seed", "1"}, {.input = "the day\nand\n"});
  CHECK(chat.code == 0);
  CHECK(std::count(chat.out.begin(), chat.out.end(), '\n') >= 2);
}

TEST_CASE("what can be wrong with a vocabulary") {
  if (without_pieces()) return;
  const PiecesWorkplace work;
  const std::string other = work / "other.model";
  CHECK(complaint(work.train_pieces("run", 1, {"--set", "model.num_tokens=256"})) ==
        "1 rondo: " + work.file + ": a vocabulary of 400 pieces, but model.num_tokens is 256; make that 400 or more\n");
  CHECK(complaint(work.train_pieces("run", 1, {"--set", "data.vocabulary=" + other})) ==
        "1 rondo: cannot read " + other + ": No such file or directory\n");
  CHECK(complaint(work.train_pieces("run", 1, {"--set", "data.vocabulary=" + work.text}))
            .starts_with("1 rondo: " + work.text + ": not a vocabulary of SentencePiece: "));
  CHECK(!std::filesystem::exists(work / "run"));
  REQUIRE(run_program(work.train_pieces("run", 1)).code == 0);
  REQUIRE(run_program({"vocabulary", "--data", work.text, "--size", "390", "--out", other}).code == 0);
  CHECK(complaint(work.resume("run", 2, {"--set", "data.vocabulary=" + other})) ==
        "2 rondo: data.vocabulary = \"" + other + "\" differs from the run in " + (work / "run") + ", which has \"" +
            work.file + "\"; leave it out, or start a new run in another --out\n");
  // A vocabulary that is not the checkpoint's own.
  std::filesystem::copy_file(other, work.checkpoint("run", "00000001") + "/vocabulary.model",
                             std::filesystem::copy_options::overwrite_existing);
  const std::string changed = "1 rondo: " + work.checkpoint("run", "00000001") +
                              "/vocabulary.model: not the vocabulary that this checkpoint was saved with\n";
  CHECK(complaint({"eval", work / "run"}) == changed);
  CHECK(complaint(work.resume("run", 2)) == changed);
  std::filesystem::remove(work.checkpoint("run", "00000001") + "/vocabulary.model");
  CHECK(complaint({"generate", work / "run"}) == "1 rondo: cannot read " + work.checkpoint("run", "00000001") +
                                                     "/vocabulary.model: No such file or directory\n");

  CHECK(complaint({"vocabulary", "--out", other}) == "2 rondo: nothing to learn from: give --data FILE\n");
  CHECK(complaint({"vocabulary", "--data", work.text, "--out", work / "none/x"}).starts_with("1 rondo: cannot write "));
  const std::string kept = read_file(other);
  CHECK(complaint({"vocabulary", "--data", work.text, "--size", "4000", "--out", other})
            .starts_with("1 rondo: this text has no more than "));
  CHECK(read_file(other) == kept);
  // Nothing but a vocabulary is replaced by one.
  const std::string text = read_file(work.text);
  CHECK(complaint({"vocabulary", "--data", work.text, "--out", work.text}) ==
        "2 rondo: " + work.text + ": there is something already that is no vocabulary; choose another --out\n");
  CHECK(read_file(work.text) == text);
  CHECK(run_program({"vocabulary", "--data", work.text, "--size", "300", "--out", other}).code == 0);
  CHECK(read_file(other) != kept);
  write_file(work / "latin1.txt", text + "caf\xE9" + text);
  CHECK(complaint({"vocabulary", "--data", work / "latin1.txt", "--out", work / "latin1.model"}) ==
        "1 rondo: " + (work / "latin1.txt") +
            ": no UTF-8 at offset 60003, which pieces are made of; give a text in UTF-8\n");
  CHECK(complaint({"vocabulary", "--data", work.text, "--size", "5", "--out", other}).starts_with("2 rondo: --size: "));
}

TEST_CASE("a program built without SentencePiece says so, and trains on bytes") {
  const std::string why =
      "1 rondo: this rondo was built without SentencePiece; build it again with libsentencepiece-dev installed\n";
  Setting in_bytes;
  in_bytes.program = RONDO_PROGRAM_IN_BYTES;
  Workplace work;
  write_file(work.text, words(60000));
  CHECK(run_program({"--version"}, in_bytes).out.find("\nSentencePiece: none (built without)\n") != std::string::npos);
  CHECK(complaint({"vocabulary", "--data", work.text, "--size", "400", "--out", work / "a.model"}, in_bytes) == why);
  REQUIRE(run_program(work.train("bytes", 1), in_bytes).code == 0);
  CHECK(run_program({"eval", work / "bytes", "--bytes", "100"}, in_bytes).code == 0);
  if (without_pieces()) return;
  const PiecesWorkplace pieces;
  CHECK(complaint(pieces.train_pieces("run", 1), in_bytes) == why);
  CHECK(!std::filesystem::exists(pieces / "run"));
  REQUIRE(run_program(pieces.train_pieces("run", 1)).code == 0);
  for (const char* command : {"eval", "generate", "chat"}) CHECK(complaint({command, pieces / "run"}, in_bytes) == why);
  CHECK(complaint(pieces.resume("run", 2), in_bytes) == why);
}

}  // namespace rondo::testing
