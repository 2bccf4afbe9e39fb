// A model that writes: what generate and chat share. The text goes out as it is made, in whole characters.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands.h"
#include "apps/run.h"
#include "models/block_recurrent/continuation.h"

namespace rondo {

struct SessionOptions {
  std::string path, state, save_state;
  Device device = Device::cpu;
  int64_t length = 256;
  SamplingOptions how;
  std::optional<double> filter_thres;
  int64_t seed = -1, speculate = 0;
  std::vector<std::string> stops;
  bool speed = false;
};
void add_session_options(Command& command, SessionOptions& options);

// One sequence of a model, new or from a file.
class Session {
 public:
  // `stream` tells sequences of one seed apart.
  Session(const LoadedModel& loaded, const SessionOptions& options, uint64_t seed, uint64_t stream = 0);

  // What is given; `name` stands for it in messages. Throws where a byte is no token of the model.
  void feed(std::string_view text, const std::string& name);
  bool began() const { return decoder_.position(0) > 0; }

  // Writes on until `length` tokens are drawn, a stop text comes (it is left out), or put, called with the new text (it
  // may be empty) and what was drawn, returns false; or until Ctrl-C, so that what was made can still be kept.
  using Put = std::function<bool(const std::string& text, const Continuation::Drawn* drawn)>;
  struct Written {
    int64_t tokens = 0;
    double log_probability = 0, seconds = 0;
    bool stopped = false;      // by a stop text
    bool interrupted = false;  // by Ctrl-C or SIGTERM
  };
  Written write(const Put& put);

  const Continuation::Speculation& speculation() const { return text_.speculation(); }
  // Into the file asked for, if any.
  void save();

 private:
  const SessionOptions& options_;
  int64_t num_tokens_;
  Decoder decoder_;
  Continuation text_;
};

// The model of the options, with their filter_thres put to work. Throws UsageError for what contradicts.
LoadedModel open_model(SessionOptions& options);
// The seed asked for, or a random one.
uint64_t seed_of(const SessionOptions& options);

// Writes to stdout at once; false once the reader has gone away.
bool write_out(std::string_view text);
// "30 tokens, 7000 tokens/s, 12 of 20 drafted tokens accepted" on stderr, where it was asked for.
void tell_speed(const SessionOptions& options, const Session::Written& written,
                const Continuation::Speculation& speculation);

}  // namespace rondo
