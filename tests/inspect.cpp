// info, graph and bench.
#include <nlohmann/json.hpp>

#include "apps/config.h"
#include "tests/program.h"

namespace rondo::testing {
namespace {

using Json = nlohmann::json;

const char* kModel =
    "[model]\nnum_tokens = 300\ndim = 16\ndepth = 2\ndim_head = 4\nheads = 2\nmax_seq_len = 12\n"
    "block_width = 6\nnum_state_vectors = 3\nrecurrent_layers = [2]\n";

}  // namespace

TEST_CASE("info: counts, shapes and memory of a configuration") {
  const Temporary directory;
  write_file(directory / "c.toml", kModel);
  const Json json = Json::parse(run_program({"info", directory / "c.toml", "--json"}).out);
  int64_t in_parts = 0;
  for (const auto& [part, n] : json["parts"].items()) in_parts += n.get<int64_t>();
  CHECK(json["parameters"] == in_parts);
  CHECK(json["parts"]["token_emb"] == 300 * 16);
  CHECK(json["parts"]["to_logits"] == 300 * 16 + 16);
  CHECK(json["parts"]["layers.0 attention"] == 16 + 16 * 8 + 16 * 8 + 16 * 8);
  CHECK(json["shapes"]["layers.1.0.state_container.init_state"] == Json{3, 16});
  CHECK(json["moments_bytes"] == 8 * in_parts);
  const Outcome text = run_program({"info", directory / "c.toml"});
  CHECK(text.code == 0);
  CHECK(text.out.starts_with(std::to_string(in_parts) + " parameters\n"));
  CHECK(text.out.find("layers.1.0.state_container.init_state") != std::string::npos);
}

TEST_CASE("info and graph: what cannot be read is one line") {
  const Temporary directory;
  CHECK(complaint({"info", directory / "none"}) ==
        "1 rondo: " + (directory / "none") + ": no such run or checkpoint\n");
  write_file(directory / "c.toml", "[model]\ndim = 0\n");
  CHECK(complaint({"graph", directory / "c.toml"}).starts_with("1 rondo: "));
}

TEST_CASE("graph: the tape in Graphviz's language") {
  const Temporary directory;
  write_file(directory / "c.toml", kModel);
  const Outcome o = run_program({"graph", directory / "c.toml"});
  CHECK(o.code == 0);
  CHECK(o.out.starts_with("digraph"));
  for (const char* op : {"embedding", "window_attention", "group_attention", "state_gate", "cross_entropy"})
    CHECK_MESSAGE(o.out.find(op) != std::string::npos, op);
}

TEST_CASE("bench: one JSON line") {
  for (const std::string what : {"train", "decode"}) {
    const Outcome o = run_program({"bench", what, "--size", "tiny", "--steps", "2", "--tokens", "3", "--threads", "1"});
    CHECK(o.code == 0);
    const Json json = Json::parse(o.out);
    CHECK(json["what"] == what);
    CHECK(json["size"] == "tiny");
    CHECK(json["dtype"] == "f32");
    CHECK(json["threads"] == 1);
    CHECK(json["tokens_per_s"] > 0);
    CHECK(json["best_tokens_per_s"] >= json["tokens_per_s"]);
    CHECK(json["peak_mb"] > 0);
    if (what == "decode")
      for (const char* field : {"prefill_tokens_per_s", "weights_mb_per_token", "copy_gb_per_s", "share_of_copy"})
        CHECK_MESSAGE(json[field] > 0, field);
    if (what != "train") continue;
    CHECK(json["final_loss"] > 0);
    CHECK(json["mean_tokens_per_s"] > 0);
    CHECK(double(json["gflop_per_s"]) / double(json["tokens_per_s"]) ==
          doctest::Approx(named_size("tiny").model.training_flops_per_token() / 1e9));
    CHECK(json["best_tokens_per_s"] >= json["mean_tokens_per_s"]);
  }
}

TEST_CASE("bench: a stream goes through training and evaluation; batch and depth are training's to choose") {
  const Json stream = Json::parse(run_program({"bench", "stream", "--size", "tiny", "--tokens", "100"}).out);
  CHECK(stream["what"] == "stream");
  CHECK(stream["tokens"] == 128);  // whole segments of 64
  for (const char* field : {"tokens_per_s", "eval_tokens_per_s", "peak_mb"}) CHECK_MESSAGE(stream[field] > 0, field);
  const Arguments train{"bench", "train", "--size", "tiny", "--steps", "1"};
  const auto loss = [&](const Arguments& more) -> double {
    return Json::parse(run_program(train + more).out)["final_loss"];
  };
  CHECK(loss({"--batch", "4", "--depth", "2"}) == loss({}));  // what the size has
  CHECK(loss({"--batch", "5"}) != loss({}));
  CHECK(loss({"--depth", "3"}) != loss({}));
  CHECK(complaint({"bench", "decode", "--depth", "3"}) == "2 rondo: --batch and --depth are for bench train\n");
  CHECK(complaint({"bench", "stream", "--dtype", "bf16"}) == "2 rondo: bench stream computes in f32\n");
}

}  // namespace rondo::testing
