// rondo graph: the tape of one forward pass and its loss, as a picture (for Graphviz: rondo graph c.toml | dot -Tsvg).
#include <cstdio>

#include "apps/commands.h"
#include "apps/inspect.h"
#include "autograd/ops.h"

namespace rondo {
namespace {

// One row of a full segment: ops that split work by blocks or carry states all show.
std::string recorded_tape(const BlockRecurrentTransformer& model) {
  for (const NamedTensor& p : parameters(model)) parameter(p.tensor);
  Generator g;
  const Shape shape{1, model.config.max_seq_len};
  Tensor tokens(shape, DType::i64), labels(shape, DType::i64);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    tokens.data<int64_t>()[i] = g.below(model.config.num_tokens);
    labels.data<int64_t>()[i] = g.below(model.config.num_tokens);
  }
  const Tape tape;
  cross_entropy(model(tokens).logits, labels, model.config.ignore_index);
  return tape.to_dot();
}

struct Options {
  std::string path;
};

void run(const Options& options) { std::fputs(recorded_tape(model_at(options.path)).c_str(), stdout); }

}  // namespace

void add_graph(CLI::App& program) {
  Command command(program, "graph", "The recorded tape of one forward pass, in Graphviz's language");
  Options& options = command.run<Options>(run);
  command.required("CONFIG", options.path, "A configuration (TOML), or a run or checkpoint");
}

}  // namespace rondo
