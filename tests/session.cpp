// generate and chat from outside: states, guesses, JSON lines and files of prompts.
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/run.h"
#include "models/block_recurrent/decoder.h"
#include "tests/trained.h"

namespace rondo::testing {
namespace {

std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::vector<nlohmann::json> all;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) all.push_back(nlohmann::json::parse(line));
  return all;
}

}  // namespace

TEST_CASE("generating in two goes, with a state between, gives the text of one") {
  const TrainedWorkplace work;
  const Arguments prompt = {"--prompt", "the light was "};
  const std::string whole = work.generate(prompt + Arguments{"--length", "120"}).out;
  const std::string first = work.generate(prompt + Arguments{"--length", "50", "--save-state", work / "state"}).out;
  const Outcome second = work.generate({"--length", "70", "--state", work / "state", "--speculate", "5"});
  CHECK(second.code == 0);
  CHECK(first + second.out == whole);
  // More text after it, kept in the same file.
  const Outcome third = work.generate(
      {"--length", "10", "--state", work / "state", "--save-state", work / "state", "--prompt", "upon the"});
  CHECK(third.code == 0);
  CHECK(third.out.size() >= 10);
}

TEST_CASE("Ctrl-C ends a text, and its state is kept") {
  const TrainedWorkplace work;
  const Process writing(
      {"generate", work.run, "--seed", "4", "--length", "1000000000", "--save-state", work / "state"});
  while (!writing.wrote()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  writing.send(SIGINT);
  const Outcome begun = writing.wait(), rest = work.generate({"--length", "20", "--state", work / "state"});
  CHECK(begun.code == 0);
  CHECK(rest.code == 0);
  CHECK(rest.out.size() >= 20);
}

TEST_CASE("saving on the way changes no byte, and a killed text goes on from what was saved") {
  const TrainedWorkplace work;
  const Arguments prompt = {"--prompt", "the light was ", "--speculate", "5"};
  const Arguments often = {"--save-state", work / "state", "--save-every", "7"};
  CHECK(work.generate(prompt + often + Arguments{"--length", "300"}).out ==
        work.generate(prompt + Arguments{"--length", "300"}).out);
  std::filesystem::remove(work / "state");
  const Process writing(Arguments{"generate", work.run, "--seed", "4", "--length", "1000000000"} + prompt + often);
  while (!std::filesystem::exists(work / "state")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  writing.send(SIGKILL);
  CHECK(writing.wait().code == 1000 + SIGKILL);
  const LoadedModel loaded = load_model(work.run);
  const int64_t kept = Decoder::load(loaded.model, work / "state").position(0) - 14;
  CHECK(kept % 7 == 0);
  const std::string whole = work.generate(prompt + Arguments{"--length", std::to_string(kept + 100)}).out;
  CHECK(work.generate({"--length", "100", "--state", work / "state"}).out == whole.substr(size_t(kept)));
}

TEST_CASE("guessing ahead changes no byte, and tells what came of it") {
  const TrainedWorkplace work;
  for (const char* temperature : {"0", "0.8"}) {
    const Arguments how = {"--length", "300", "--temperature", temperature, "--speed"};
    const Outcome plain = work.generate(how), guessed = work.generate(how + Arguments{"--speculate", "8"});
    CHECK(plain.code == 0);
    CHECK(guessed.out == plain.out);
    CHECK(plain.err.starts_with("seed 4\n300 tokens, "));
    CHECK(plain.err.ends_with(" tokens/s\n"));
    CHECK(guessed.err.ends_with(" guessed tokens accepted\n"));
  }
}

TEST_CASE("JSON lines: a token each, then the text; eval tells the same probabilities") {
  const TrainedWorkplace work;
  const Arguments how = {"--prompt", "a", "--length", "40"};
  const std::string text = work.generate(how).out;
  const auto lines = lines_of(work.generate(how + Arguments{"--json"}).out);
  REQUIRE(lines.size() == 41);
  CHECK(lines[40]["text"] == text);
  CHECK(lines[40]["tokens"] == 40);
  CHECK(lines[40]["seed"] == 4);
  CHECK(lines[40]["stopped"] == false);

  write_file(work / "scored", "a" + text);
  const Outcome scored = run_program({"eval", work.run, "--data", work / "scored", "--logprobs"});
  REQUIRE(scored.code == 0);
  const auto each = lines_of(scored.out);
  REQUIRE(each.size() == 41);
  double sum = 0;
  std::string pieces;
  for (size_t i = 0; i < 40; ++i) {
    CHECK(each[i]["text"] == lines[i]["text"]);
    pieces += lines[i]["text"].get<std::string>();
    CHECK(each[i]["token"] == lines[i]["token"]);
    CHECK(double(each[i]["logprob"]) == doctest::Approx(double(lines[i]["logprob"])).epsilon(1e-4));
    sum += double(each[i]["logprob"]);
  }
  CHECK(pieces == text);
  CHECK(double(each[40]["bits_per_byte"]) == doctest::Approx(-sum / 40 / std::log(2)).epsilon(1e-5));
  CHECK(double(lines[40]["logprob"]) == doctest::Approx(sum).epsilon(1e-4));

  const Outcome closed = run_program({"eval", work.run, "--logprobs"}, {.closed_pipe = true});
  CHECK(closed.code == 0);
  CHECK(closed.err == "");
}

TEST_CASE("prompts from a file, a line each, and from stdin") {
  const TrainedWorkplace work;
  write_file(work / "prompts", "the light\nand he\nthe light");
  write_file(work / "prompt", "the light");
  const Arguments length = {"--length", "30"};
  const Outcome all = work.generate(length + Arguments{"--prompts", work / "prompts"});
  CHECK(all.code == 0);
  const auto lines = lines_of(all.out);
  REQUIRE(lines.size() == 3);
  CHECK(lines[1]["prompt"] == "and he");
  CHECK(lines[0]["text"] == work.generate(length + Arguments{"--prompt-file", work / "prompt"}).out);
  CHECK(lines[0]["text"] == work.generate(length + Arguments{"--prompt-file", "-"}, {.input = "the light"}).out);
  CHECK(lines[0]["text"] != lines[2]["text"]);  // each prompt has noise of its own
  CHECK(work.generate(length + Arguments{"--prompts", "-"}, {.input = "the light\nand he\nthe light"})
            .out.substr(0, 60) == all.out.substr(0, 60));
}

TEST_CASE("prompts written together give what each gives alone") {
  const TrainedWorkplace work;
  const std::string prompts = "the light\nand he\nthe light\nupon the waters, upon the waters, upon the waters\na\n";
  REQUIRE(work.generate({"--length", "3", "--prompt", "he was ", "--save-state", work / "state"}).code == 0);
  for (const Arguments& how : {Arguments{"--length", "50"},
                               {"--length", "90", "--stop", "he ", "--temperature", "0.8"},
                               {"--length", "50", "--temperature", "0", "--speculate", "5"},
                               {"--length", "20", "--state", work / "state"}}) {
    const auto made = [&](const char* batch) {
      const Outcome all = work.generate(how + Arguments{"--prompts", "-", "--batch", batch}, {.input = prompts});
      CHECK(all.code == 0);
      auto lines = lines_of(all.out);
      for (auto& line : lines) line.erase("tokens_per_s");
      return lines;
    };
    const auto alone = made("1");
    REQUIRE(alone.size() == 5);
    CHECK(made("2") == alone);  // to the last digit of the log-probability
    CHECK(made("16") == alone);
    auto first = lines_of(work.generate(how + Arguments{"--prompt", "the light", "--json"}).out).back();
    CHECK(first["text"] == alone[0]["text"]);
    CHECK(first["logprob"] == alone[0]["logprob"]);
  }
}

TEST_CASE("filter-thres is top-k in the reference's words; a repetition penalty changes the text") {
  const TrainedWorkplace work;
  const Arguments length = {"--length", "60"};
  CHECK(work.generate(length + Arguments{"--filter-thres", "0.99"}).out ==
        work.generate(length + Arguments{"--top-k", "3"}).out);
  CHECK(work.generate(length + Arguments{"--temperature", "0", "--repetition-penalty", "3"}).out !=
        work.generate(length + Arguments{"--temperature", "0"}).out);
}

TEST_CASE("chat answers line by line and remembers") {
  const TrainedWorkplace work;
  const auto chat = [&](const std::string& input, const Arguments& more = {}) {
    return run_program(Arguments{"chat", work.run, "--seed", "1", "--length", "40"} + more, {.input = input});
  };
  const Outcome both = chat("the light\nand he\n"), first = chat("the light\n", {"--save-state", work / "state"});
  CHECK(both.code == 0);
  CHECK(both.err == "seed 1\n");
  CHECK(both.out.ends_with("\n"));
  CHECK(both.out.starts_with(first.out));
  CHECK(first.out + chat("and he\n", {"--state", work / "state"}).out == both.out);
  CHECK(chat("").out.empty());

  REQUIRE(run_program(work.train("small", 0, {"--set", "model.num_tokens=123"})).code == 0);
  const Outcome outside = run_program({"chat", work / "small", "--seed", "1"}, {.input = "{\n"});
  CHECK(outside.code == 0);
  CHECK(outside.err ==
        "seed 1\nrondo: the line: byte 123 at offset 0 is not in the model's vocabulary of 123 tokens "
        "(model.num_tokens)\n");
}

}  // namespace rondo::testing
