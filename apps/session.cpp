#include "apps/session.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <random>

#include "apps/clock.h"
#include "apps/streams.h"
#include "apps/text_stream.h"
#include "apps/usage.h"
#include "nn/file.h"
#include "nn/safetensors.h"

namespace rondo {

void add_session_options(Command& command, SessionOptions& options) {
  command.model(options.path);
  command.number("--length", options.length, "Tokens to make: bytes, or pieces of the run's vocabulary");
  command.number("--temperature", options.how.temperature, "0: always the likeliest");
  command.number("--top-k", options.how.top_k, "Keep the K likeliest; 0: all");
  command.number("--filter-thres", options.filter_thres, "In place of --top-k: keep ceil((1 - THRES) * vocabulary)");
  command.number("--top-p", options.how.top_p, "Keep the fewest that have probability P together");
  command.number("--min-p", options.how.min_p, "Drop what is less likely than P times the likeliest");
  command.number("--repetition-penalty", options.how.repetition_penalty, "Above 1: what came lately is less likely");
  command.number("--repetition-window", options.how.repetition_window, "How many tokens are \"lately\"");
  command.number("--seed", options.seed, "Seed of the draws (default: a random one, told on stderr)");
  command.repeated("--stop", options.stops, "End before this text; may be given several times");
  command.number("--speculate", options.speculate,
                 "Guess so many tokens ahead from what came before (the text stays the same); 0: none", 0,
                 Continuation::kMostDraft);
  command.text("--state", options.state, "Go on from this decoding state");
  command.text("--save-state", options.save_state,
               "Keep the decoding state in this file: at the end, or after each answer of a chat");
  command.number("--save-every", options.save_every, "Keep it after so many tokens each time as well; 0: no sooner");
  command.flag("--speed", options.speed, "Tell tokens per second on stderr");
  command.device(options.device);
  command.threads();
}

LoadedModel open_model(SessionOptions& options) {
  if (options.save_every > 0 && options.save_state.empty())
    throw UsageError("--save-every says how often to save; give --save-state, which says where");
  if (options.filter_thres && options.how.top_k > 0)
    throw UsageError("--top-k and --filter-thres both say how many tokens to keep; give one of them");
  as_usage([&] {
    options.how.validate();
    if (options.filter_thres) top_k_of_filter_thres(*options.filter_thres, 1);
  });
  if (const std::string& path = options.save_state; !path.empty()) {
    check_replaceable(path, "decoding state", "--save-state",
                      [&] { check(read_safetensors(path).metadata.contains("decoding_state"), "no decoding state"); });
    FileWriter writer(path);  // said now where it cannot be written, not at the end
  }
  LoadedModel loaded = load_model(options.path, options.device);
  if (options.filter_thres)
    options.how.top_k = top_k_of_filter_thres(*options.filter_thres, loaded.config.model.num_tokens);
  return loaded;
}

bool drops_lines(const LoadedModel& loaded) { return loaded.tokenizer.encode("\n").size() == 0; }

uint64_t seed_of(const SessionOptions& options) {
  return options.seed >= 0 ? uint64_t(options.seed) : std::random_device()();
}

Session::Session(const LoadedModel& loaded, const SessionOptions& options, uint64_t seed, int64_t count,
                 uint64_t stream)
    : options_(options),
      tokenizer_(loaded.tokenizer),
      decoder_(options.state.empty() ? Decoder(loaded.model, count) : Decoder::load(loaded.model, options.state)) {
  if (!options.state.empty()) {
    check(decoder_.batch() == 1, options.state, ": this decoding state has ", decoder_.batch(),
          " rows, but one sequence goes on here");
    if (count > 1) decoder_ = decoder_.fork(0, count);
  }
  for (int64_t i = 0; i < count; ++i) {
    const Generator noise = {seed, stream::sampling + ((stream + uint64_t(i)) << 8), 0};
    texts_.emplace_back(decoder_, i, options.how, noise, options.speculate);
  }
}

void Session::feed(int64_t sequence, std::string_view text, const std::string& name) {
  tokenizer_.check_text(text, name);
  const Text encoded = tokenizer_.encode(text);
  check(text.empty() || encoded.size() > 0, name, ": the vocabulary drops all of it; give other text");
  if (encoded.size() > 0) texts_[size_t(sequence)].feed(to(encoded.tokens, DType::i64));
}

std::vector<Session::Written> Session::write(const Interrupt& interrupt, const Put& put) {
  const auto start = Clock::now();
  std::vector<Written> written(texts_.size());
  std::vector<TextStream> streams(texts_.size(), TextStream(tokenizer_, options_.stops));
  std::vector<int64_t> going;
  for (int64_t i = 0; i < int64_t(texts_.size()); ++i) going.push_back(i);
  std::vector<Continuation*> texts;
  bool open = true;
  while (!going.empty()) {
    std::erase_if(going, [&](int64_t i) {  // those that end here
      Written& w = written[size_t(i)];
      w.stopped = streams[size_t(i)].stopped(), w.interrupted = interrupt.requested();
      if (open && !w.stopped && !w.interrupted && w.tokens < options_.length) return false;
      if (open) open = put(i, streams[size_t(i)].finish(), nullptr);
      w.seconds = seconds_since(start);
      return true;
    });
    texts.clear();
    for (const int64_t i : going) texts.push_back(&texts_[size_t(i)]);
    Continuation::feed_drawn(texts);
    for (const int64_t i : going) {
      const Continuation::Drawn drawn = texts_[size_t(i)].next();
      Written& w = written[size_t(i)];
      ++w.tokens, w.log_probability += drawn.log_probability;
      open = open && put(i, streams[size_t(i)].push(drawn.token), &drawn);
      if (options_.save_every > 0 && w.tokens % options_.save_every == 0) save();
    }
  }
  return written;
}

Continuation::Speculation Session::speculation() const {
  Continuation::Speculation all;
  for (const Continuation& text : texts_)
    all.drafted += text.speculation().drafted, all.accepted += text.speculation().accepted;
  return all;
}

void Session::save() {
  if (options_.save_state.empty()) return;
  texts_[0].settle();
  decoder_.save(options_.save_state);
}

bool write_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) return false;
    check(n >= 0, "cannot write to stdout: ", std::strerror(errno));
    text.remove_prefix(size_t(n));
  }
  return true;
}

void tell_speed(const SessionOptions& options, const Session::Written& written,
                const Continuation::Speculation& speculation) {
  if (!options.speed) return;
  std::cerr << written.tokens << " tokens, " << std::fixed << std::setprecision(0)
            << double(written.tokens) / std::max(written.seconds, 1e-9) << " tokens/s";
  if (options.speculate > 0)
    std::cerr << ", " << speculation.accepted << " of " << speculation.drafted << " guessed tokens accepted";
  std::cerr << std::endl;
}

}  // namespace rondo
