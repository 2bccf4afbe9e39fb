// Reverse-mode differentiation. While a Tape is alive on a thread, every op that uses a tracked tensor writes down one
// closure: "given the gradient of my result, these are the gradients of my inputs". backward() plays the closures in
// reverse. A list in time order needs no graph, no search and no recursion.
//
// No Tape alive means inference: nothing is recorded. A new Tape per segment is truncated backpropagation through time:
// what came from an earlier tape counts as a constant. There are no second derivatives: rules are played, not recorded.
#pragma once
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "../tensor/arena.h"
#include "../tensor/tensor.h"
#include "id_map.h"

namespace rondo {

inline constexpr int kMaxInputs = 8;  // of one op

// What a rule returns: one gradient per input, in order; an empty Tensor means zero.
class Grads {
 public:
  Grads(std::initializer_list<Tensor> grads) {
    check(grads.size() <= kMaxInputs, "a rule returns at most ", kMaxInputs, " gradients");
    for (const Tensor& g : grads) items_[n_++] = g;
  }
  void push_back(Tensor g) {
    check(n_ < kMaxInputs, "a rule returns at most ", kMaxInputs, " gradients");
    items_[n_++] = std::move(g);
  }
  int size() const { return n_; }
  Tensor& operator[](int i) { return items_[i]; }

 private:
  Tensor items_[kMaxInputs];
  int n_ = 0;
};

// The inputs of an op, as record() takes them: {x, gamma}. Optional inputs may be empty Tensors.
class Inputs {
 public:
  Inputs(std::initializer_list<std::reference_wrapper<const Tensor>> inputs) {
    check(inputs.size() <= kMaxInputs, "an op has at most ", kMaxInputs, " inputs");
    for (const Tensor& t : inputs) items_[n_++] = &t;
  }
  explicit Inputs(std::span<const Tensor> inputs) {
    check(inputs.size() <= kMaxInputs, "an op has at most ", kMaxInputs, " inputs");
    for (const Tensor& t : inputs) items_[n_++] = &t;
  }
  int size() const { return n_; }
  const Tensor& operator[](int i) const { return *items_[i]; }

 private:
  const Tensor* items_[kMaxInputs];
  int n_ = 0;
};

// Gradients of parameters, by identity. Kept and used again from step to step, it allocates nothing.
class Gradients {
 public:
  // The gradient of t; throws when none reached it. Others may see its buffer; own() gives one to write into.
  const Tensor& operator[](const Tensor& t) const;
  // The gradient of t, or an empty Tensor when nothing reached it.
  Tensor find(const Tensor& t) const;
  // Adds g, of t's shape and dtype, to the gradient of t (in place where nobody else holds it).
  void add(const Tensor& t, Tensor g);
  // The gradient of t, to be written into: nobody else holds its buffer. Empty when none reached it.
  Tensor own(const Tensor& t);
  // Takes the gradient of t out of here. Empty when none reached it, or somebody else holds its buffer.
  Tensor take(const Tensor& t);
  void clear() { grads_.clear(); }
  int size() const { return grads_.size(); }

 private:
  IdMap<Tensor> grads_;
};

class Tape;

// What a rule may ask for beside the gradient of its result: the gradients of its inputs so far, to add to them where
// they lie instead of making one that is added later.
class SoFar {
 public:
  // The gradient of input i, to add to; then it is what the rule returns for i. Empty where there is none yet, or where
  // somebody else sees its buffer: then the rule returns one of its own.
  Tensor take(int i);
  // The same, or else a new tensor like input i, to put its gradient there. Empty where the input is.
  Into into(int i, const Tensor& input) {
    Tensor g = take(i);
    const bool adds = bool(g);
    return {adds || !input ? g : empty_like(input), adds};
  }

 private:
  friend class Tape;
  SoFar(Tape& tape, size_t entry, Gradients& into) : tape_(tape), entry_(entry), into_(into) {}
  Tape& tape_;
  size_t entry_;
  Gradients& into_;
  uint32_t taken_ = 0;  // a bit for each input
};

struct TapeOptions {
  // Look at every result and every gradient, and throw at the first NaN or infinity, naming the op; where and ops that
  // only move elements may have infinities, which somebody chose. Slow: for debugging.
  bool check_finite = false;
};

// Several threads may have a tape each, on the same parameters. A tape ends on the thread that made it.
class Tape {
 public:
  explicit Tape(TapeOptions options = {});  // records from now on, on this thread
  ~Tape();                                  // the one made before it, if still there, records again
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // d loss / d p for every parameter p the loss depends on. The loss must be one number. Empties the tape.
  Gradients backward(const Tensor& loss);
  // The same times `seed`, added to what `into` holds. A parameter's gradient is added as soon as it is whole, while
  // the rules of the ops before its first use are still to be played; `ready` is then called with the parameter. The
  // order follows from the ops alone. Where a rule throws, `into` has what was whole by then, and what it held may have
  // grown by parts of the rest.
  using Ready = std::function<void(const Tensor& parameter)>;
  void backward(const Tensor& loss, double seed, Gradients& into, const Ready& ready = {});

  // How many ops are recorded.
  int size() const;
  // Whether t is a parameter or follows from one through ops on this tape.
  bool tracks(const Tensor& t) const;
  // The recorded ops and how they feed each other, in Graphviz's language.
  std::string to_dot() const;

  // The tape that records on this thread: the last one made, or null.
  static Tape* current();
  // Whether any tape alive on this thread holds recorded ops. Optimizers refuse to step then.
  static bool any_recorded();

 private:
  template <class Rule>
  friend Tensor record(const char* op, const Inputs& inputs, Tensor output, Rule&& rule);
  friend class SoFar;
  friend class NoTape;

  // A recorded op. Its rule lies in the arena and is destroyed as soon as it was played.
  struct Entry {
    const char* op;
    void* rule;
    Grads (*play)(void* rule, const Tensor& dy, SoFar& so_far);
    void (*destroy)(void* rule);
    int32_t output;  // slot
    int32_t n_inputs;
    int32_t inputs[kMaxInputs];  // slots, -1 where untracked
    Shape shapes[kMaxInputs];
    DType dtypes[kMaxInputs];
    Shape output_shape;
  };
  // A parameter, to give its gradient out under its identity.
  struct Leaf {
    Tensor parameter;
    int32_t slot;          // where its gradient is
    size_t first_used_by;  // an entry: once that was played, the gradient is whole
    bool taken = false;    // from those that backward() was given, to be added to
  };
  struct Storage {
    std::vector<Entry> entries;
    std::vector<Leaf> leaves;   // in the order of their first use
    IdMap<int32_t> leaf_slots;  // apart from the parameters, which other threads may have on their tapes
    std::vector<Tensor> grads;  // by slot, while playing
    int32_t n_slots = 0;
    bool playing = false;
    Arena arena;
  };

  // Null when no input is tracked (nothing to record); else a new entry without its rule.
  Entry* append(const char* op, const Inputs& inputs, const Tensor& output);
  int32_t slot_of(const Tensor& t);
  int32_t known_slot_of(const Tensor& t) const;
  void add_gradient(const Entry& entry, int i, Tensor g);
  void keep_taken(const Entry& entry, int i, const Tensor& g);
  void play(Gradients& into, const Ready& ready);
  void give_back(Gradients& into);
  void clear();
  static void announce();

  std::unique_ptr<Storage> storage_;
  Tape* outer_;
  uint64_t made_, serial_;  // when it was made; what the records of tensors it follows have
  TapeOptions options_;
};

// While one is alive, the tapes that were there before record nothing: what is computed is a constant to them, as a
// teacher's answers are.
class NoTape {
 public:
  NoTape();
  ~NoTape();
  NoTape(const NoTape&) = delete;
  NoTape& operator=(const NoTape&) = delete;

 private:
  uint64_t before_;
};

// Writes down how the gradients of an op's inputs follow from that of its output, and returns the output. The rule is
// called as Grads(const Tensor& dy), or with a SoFar& behind it; what it captures is exactly what is kept for the
// backward pass.
template <class Rule>
Tensor record(const char* op, const Inputs& inputs, Tensor output, Rule&& rule) {
  Tape* tape = Tape::current();
  if (!tape) return output;
  if (Tape::Entry* entry = tape->append(op, inputs, output)) {
    using R = std::decay_t<Rule>;
    entry->rule = new (tape->storage_->arena.allocate(sizeof(R))) R(std::forward<Rule>(rule));
    entry->play = [](void* r, const Tensor& dy, SoFar& so_far) -> Grads {
      if constexpr (std::is_invocable_v<R&, const Tensor&, SoFar&>)
        return (*static_cast<R*>(r))(dy, so_far);
      else
        return (*static_cast<R*>(r))(dy);
    };
    entry->destroy = [](void* r) { static_cast<R*>(r)->~R(); };
  }
  return output;
}

// For ops without a rule: throws when x is tracked, so that no gradient is lost in silence.
void no_gradient(const char* op, const Tensor& x);

}  // namespace rondo
