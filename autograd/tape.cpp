#include "autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

thread_local Tape* innermost = nullptr;
thread_local uint64_t silent = 0;  // tapes that were made before then record nothing

Tensor sum_of(const Tensor& a, const Tensor& b) {
  Tensor total = clone(a);
  dispatch(a.device(), [&](auto d) { add_into(d, b, total); });
  return total;
}

// Adds g to total: in place where nobody else sees total's buffer (rules may return one tensor twice, or a view of it).
void accumulate(Tensor& total, Tensor g) {
  if (!total)
    total = std::move(g);
  else if (total.owned_alone())
    dispatch(total.device(), [&](auto d) { add_into(d, g, total); });
  else if (g.owned_alone())
    dispatch(g.device(), [&](auto d) { add_into(d, total, g); }), total = std::move(g);
  else
    total = sum_of(total, g);
}

void check_finite(const char* op, const char* what, const Tensor& t) {
  if (!is_float(t.dtype())) return;
  const int64_t at = dispatch(t.device(), [&](auto d) { return first_non_finite(d, t); });
  check(at < 0, op, ": ", what, " of shape ", t.shape(), " is not finite: element ", at,
        " is the first NaN or infinity");
}

// Ops that make no infinity of their own: what they have of them was put there, as where does in a mask.
bool only_moves(std::string_view op) {
  for (const char* name : {"where", "reshape", "permute", "narrow", "concat", "broadcast_to", "pick", "unfold"})
    if (op == name) return true;
  return false;
}
bool has_nan(const Tensor& t) {
  if (!is_float(t.dtype())) return false;
  const Tensor host = to(to(detach(t), Device::cpu), DType::f64);
  return std::any_of(host.data<double>(), host.data<double>() + host.numel(), [](double v) { return v != v; });
}

}  // namespace

// ---- Gradients ----

Tensor Gradients::find(const Tensor& t) const {
  const Tensor* g = grads_.find(t.id());
  return g ? *g : Tensor();
}

const Tensor& Gradients::operator[](const Tensor& t) const {
  const Tensor* g = grads_.find(t.id());
  check(g && *g, "Gradients: no gradient reached this tensor of shape ", t.shape());
  return *g;
}

void Gradients::add(const Tensor& t, Tensor g) {
  check(g.shape() == t.shape() && g.dtype() == t.dtype(), "Gradients: a tensor of ", t.dtype(), " ", t.shape(),
        " cannot have a gradient of ", g.dtype(), " ", g.shape());
  accumulate(grads_[t.id()], std::move(g));
}

Tensor Gradients::own(const Tensor& t) {
  Tensor* g = grads_.find(t.id());
  if (!g) return {};
  if (*g && !g->owned_alone()) *g = clone(*g);
  return *g;
}

Tensor Gradients::take(const Tensor& t) {
  Tensor* g = grads_.find(t.id());
  return g && *g && g->owned_alone() ? std::exchange(*g, {}) : Tensor();
}

// ---- Tape ----

namespace {
// Storage of tapes that are gone, for the next ones of this thread.
template <class Storage>
std::vector<std::unique_ptr<Storage>>& spare() {
  thread_local std::vector<std::unique_ptr<Storage>> list;
  return list;
}

uint64_t new_serial() {
  static std::atomic<uint64_t> next = 1;
  return next.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

Tape::Tape(TapeOptions options) : outer_(innermost), options_(options) {
  made_ = serial_ = new_serial();
  auto& list = spare<Storage>();
  if (list.empty()) {
    storage_ = std::make_unique<Storage>();
  } else {
    storage_ = std::move(list.back());
    list.pop_back();
  }
  innermost = this;
  announce();
}

// Tapes need not end in the order they were made in, as where one is assigned to a pointer that holds another.
Tape::~Tape() {
  clear();
  Tape** place = &innermost;
  while (*place && *place != this) place = &(*place)->outer_;
  if (!*place) {
    std::fputs("Rondo: a Tape ended on another thread than the one that made it\n", stderr);
    std::abort();  // that thread would record on what is gone
  }
  *place = outer_;
  announce();
  spare<Storage>().push_back(std::move(storage_));
}

NoTape::NoTape() : before_(std::exchange(silent, new_serial())) { Tape::announce(); }
NoTape::~NoTape() {
  silent = before_;
  Tape::announce();
}

Tape* Tape::current() { return innermost && innermost->made_ > silent ? innermost : nullptr; }
void Tape::announce() {
  const Tape* tape = current();
  recording_tape = tape ? tape->serial_ : 0;
}
bool Tape::tracks(const Tensor& t) const { return t.is_parameter() || t.record()->tape == serial_; }
int Tape::size() const { return int(storage_->entries.size()); }
bool Tape::any_recorded() {
  for (Tape* t = innermost; t; t = t->outer_)
    if (t->size() > 0) return true;
  return false;
}

// Where the gradient of t is kept, or -1 when nothing will ask for it.
int32_t Tape::known_slot_of(const Tensor& t) const {
  if (!t) return -1;
  if (t.is_parameter()) {
    const int32_t* slot = storage_->leaf_slots.find(t.id());
    return slot ? *slot : -1;
  }
  const TensorRecord& r = *t.record();
  return r.tape == serial_ ? r.slot : -1;
}
// The same; a parameter gets its place at its first use.
int32_t Tape::slot_of(const Tensor& t) {
  const int32_t known = known_slot_of(t);
  if (known >= 0 || !t || !t.is_parameter()) return known;
  const int32_t slot = storage_->n_slots++;
  storage_->leaf_slots[t.id()] = slot;
  storage_->leaves.push_back({t, slot, storage_->entries.size()});
  return slot;
}

Tape::Entry* Tape::append(const char* op, const Inputs& inputs, const Tensor& output) {
  if (options_.check_finite && (!only_moves(op) || has_nan(output))) check_finite(op, "the result", output);
  check(!tracks(output), op, ": the op returns a tensor that the tape follows already; return detach() of it");
  Entry e;
  bool tracked = false;
  e.n_inputs = inputs.size();
  for (int i = 0; i < inputs.size(); ++i) {
    check(inputs[i].record() != output.record(), op, ": the op returns one of its inputs; return detach() of it");
    e.inputs[i] = slot_of(inputs[i]);
    if (e.inputs[i] < 0) continue;
    e.shapes[i] = inputs[i].shape();
    e.dtypes[i] = inputs[i].dtype();
    tracked = true;
  }
  if (!tracked) return nullptr;
  e.op = op;
  e.rule = nullptr;
  e.output_shape = output.shape();
  e.output = storage_->n_slots++;
  output.record()->tape = serial_;
  output.record()->slot = e.output;
  storage_->entries.push_back(e);
  return &storage_->entries.back();
}

Gradients Tape::backward(const Tensor& loss) {
  Gradients grads;
  backward(loss, 1, grads);
  return grads;
}

void Tape::backward(const Tensor& loss, double seed, Gradients& into, const Ready& ready) {
  check(loss.numel() == 1, "backward: the loss must be one number, but has shape ", loss.shape());
  const int32_t slot = known_slot_of(loss);
  check(slot >= 0, "backward: the loss ",
        loss.record()->tape == 0
            ? "does not depend on any parameter recorded on this tape (masks, indices and detach() have no gradient)"
            : "was recorded on another tape, or before this one was played, which empties it");
  Storage& s = *storage_;
  check(!s.playing, "backward: this tape is being played");
  s.playing = true;
  const NoTape playing;  // rules are played, not recorded
  s.grads.resize(size_t(s.n_slots));
  s.grads[size_t(slot)] = full(loss.shape(), seed, loss.dtype(), loss.device());
  try {
    play(into, ready);
  } catch (...) {
    give_back(into);
    clear();
    throw;
  }
  clear();
}

void Tape::give_back(Gradients& into) {
  for (Leaf& leaf : storage_->leaves)
    if (leaf.taken) into.add(leaf.parameter, std::move(storage_->grads[size_t(leaf.slot)]));
}

void Tape::play(Gradients& into, const Ready& ready) {
  Storage& s = *storage_;
  for (size_t k = s.entries.size(); k-- > 0;) {
    Entry& e = s.entries[k];
    if (const Tensor dy = std::move(s.grads[size_t(e.output)])) {
      SoFar so_far(*this, k, into);
      Grads dx = e.play(e.rule, dy, so_far);
      check(dx.size() == e.n_inputs, e.op, ": the rule gave ", dx.size(), " gradients for ", e.n_inputs, " inputs");
      for (int i = 0; i < dx.size(); ++i)
        if (so_far.taken_ >> i & 1) keep_taken(e, i, std::exchange(dx[i], {}));
      for (int i = 0; i < dx.size(); ++i) add_gradient(e, i, std::move(dx[i]));
    }
    e.destroy(std::exchange(e.rule, nullptr));  // frees what was kept for this op
    for (; !s.leaves.empty() && s.leaves.back().first_used_by == k; s.leaves.pop_back()) {
      const Leaf& leaf = s.leaves.back();
      if (Tensor& g = s.grads[size_t(leaf.slot)]) into.add(leaf.parameter, std::move(g));
      if (ready) ready(leaf.parameter);
    }
  }
}

Tensor SoFar::take(int i) {
  Tape::Storage& s = *tape_.storage_;
  const Tape::Entry& e = s.entries[entry_];
  check(i >= 0 && i < e.n_inputs, e.op, ": the rule asks for gradient ", i, ", but the op has ", e.n_inputs, " inputs");
  const int32_t slot = e.inputs[i];
  if (slot < 0) return {};
  Tensor& g = s.grads[size_t(slot)];
  if (!g) {  // an earlier tape may have given one to this parameter; slots of leaves ascend
    const auto leaf = std::lower_bound(s.leaves.begin(), s.leaves.end(), slot,
                                       [](const Tape::Leaf& l, int32_t at) { return l.slot < at; });
    if (leaf == s.leaves.end() || leaf->slot != slot) return {};
    g = into_.take(leaf->parameter);
    leaf->taken = bool(g);
  }
  if (!g || !g.owned_alone()) return {};
  taken_ |= 1u << i;
  return g;
}

// A rule that took a gradient added to it in place, so that very tensor must come back.
void Tape::keep_taken(const Entry& e, int i, const Tensor& g) {
  check(g.record() == storage_->grads[size_t(e.inputs[i])].record(), e.op, ": the rule took gradient ", i,
        " to add to it, but returned another");
  if (options_.check_finite) check_finite(e.op, "a gradient", g);
}

void Tape::add_gradient(const Entry& e, int i, Tensor g) {
  if (e.inputs[i] < 0 || !g) return;
  check(g.shape() == e.shapes[i], e.op, ": the rule's gradient ", i, " has shape ", g.shape(), ", but its input has ",
        e.shapes[i]);
  check(g.dtype() == e.dtypes[i], e.op, ": the rule's gradient ", i, " is ", g.dtype(), ", but its input is ",
        e.dtypes[i]);
  if (options_.check_finite) check_finite(e.op, "a gradient", g);
  accumulate(storage_->grads[size_t(e.inputs[i])], std::move(g));
}

// Forgets everything recorded; tensors of this tape are constants from now on.
void Tape::clear() {
  serial_ = new_serial();
  announce();
  Storage& s = *storage_;
  for (Entry& e : s.entries)
    if (e.rule) e.destroy(e.rule);
  s.entries.clear();
  s.leaves.clear();
  s.leaf_slots.clear();
  s.grads.clear();
  s.n_slots = 0;
  s.playing = false;
  s.arena.rewind({});
}

std::string Tape::to_dot() const {
  std::ostringstream os;
  os << "digraph tape {\n  node [shape=box];\n";
  for (const Leaf& leaf : storage_->leaves)
    os << "  t" << leaf.slot << " [label=\"" << leaf.parameter.shape() << "\", style=filled];\n";
  for (const Entry& e : storage_->entries) {
    os << "  t" << e.output << " [label=\"" << e.op << "\\n" << e.output_shape << "\"];\n";
    for (int i = 0; i < e.n_inputs; ++i)
      if (e.inputs[i] >= 0) os << "  t" << e.inputs[i] << " -> t" << e.output << ";\n";
  }
  os << "}\n";
  return os.str();
}

void no_gradient(const char* op, const Tensor& x) {
  check(!is_tracked(x), op, ": has no backward rule, but its input of shape ", x.shape(), " is tracked; use detach()");
}

}  // namespace rondo
