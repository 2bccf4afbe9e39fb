// A model that writes: what generate and chat share. The text goes out as it is made, in whole characters.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/run.h"
#include "models/block_recurrent/continuation.h"

namespace rondo {

struct SessionOptions {
  std::string path, state, save_state;
  Device device = Device::cpu;
  int64_t length = 256;
  SamplingOptions how;
  std::optional<double> filter_thres;
  int64_t seed = -1, speculate = 0, save_every = 0;
  std::vector<std::string> stops;
  bool speed = false;
};
void add_session_options(Command& command, SessionOptions& options);

// Sequences of a model, new or from a file, that go on together: one pass over the weights serves all of them.
class Session {
 public:
  // `count` sequences; the noise of the first is that of `stream`, of the others that of the next ones.
  Session(const LoadedModel& loaded, const SessionOptions& options, uint64_t seed, int64_t count = 1,
          uint64_t stream = 0);

  // What is given to a sequence; `name` stands for it in messages. Throws where a byte is no token of the model.
  void feed(int64_t sequence, std::string_view text, const std::string& name);
  bool began(int64_t sequence) const { return decoder_.position(sequence) > 0; }

  // Writes on, in each sequence until `length` tokens are drawn or a stop text comes (it is left out). Calls put with
  // the new text (it may be empty) and what was drawn. Ends all when put returns false, or at Ctrl-C, so that what was
  // made can still be kept. Returns one record a sequence.
  using Put = std::function<bool(int64_t sequence, const std::string& text, const Continuation::Drawn* drawn)>;
  struct Written {
    int64_t tokens = 0;
    double log_probability = 0, seconds = 0;
    bool stopped = false;      // by a stop text
    bool interrupted = false;  // by Ctrl-C or SIGTERM
  };
  std::vector<Written> write(const Interrupt& interrupt, const Put& put);

  // Of all sequences together.
  Continuation::Speculation speculation() const;
  // The first sequence, into the file asked for, if any. Changes nothing about how it goes on.
  void save();

 private:
  const SessionOptions& options_;
  const Tokenizer& tokenizer_;
  Decoder decoder_;
  std::vector<Continuation> texts_;
};

// Whether the model's vocabulary has nothing for a line's end.
bool drops_lines(const LoadedModel& loaded);
// The model of the options, with their filter_thres put to work. Throws UsageError for what contradicts.
LoadedModel open_model(SessionOptions& options);
// The seed asked for, or a random one.
uint64_t seed_of(const SessionOptions& options);

// Writes to stdout at once; false once the reader has gone away.
bool write_out(std::string_view text);
// "30 tokens, 7000 tokens/s, 12 of 20 guessed tokens accepted" on stderr, where it was asked for.
void tell_speed(const SessionOptions& options, const Session::Written& written,
                const Continuation::Speculation& speculation);

}  // namespace rondo
