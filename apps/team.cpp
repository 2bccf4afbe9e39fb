#include "apps/team.h"

#include <unistd.h>

#include <cstdio>
#include <sstream>

#include "autograd/ops.h"

namespace rondo {
namespace {

// What all ranks must agree on, as one line.
std::string purpose_of(RunConfig config, const Fingerprint& text, int64_t step) {
  config.runtime = {}, config.data.files.clear(), config.data.vocabulary.clear();  // a machine may have them elsewhere
  std::ostringstream os;
  os << "step " << step << " on " << text.bytes << " bytes (" << std::hex << text.hash << ' ' << text.vocabulary
     << ") with configuration " << fingerprint_of(to_toml(config)).hash;
  return os.str();
}

// The others may be waited for in the middle of a step, which nothing else can end.
void end_process(const std::string& why) {
  std::fprintf(stderr, "rondo: %s; training ends here, and goes on from the last checkpoint with --resume\n",
               why.c_str());
  _exit(1);
}

}  // namespace

Team::Team(const RunConfig& config, const Fingerprint& text, int64_t step) {
  const std::optional<Ranks> ranks = ranks_of_environment();
  if (!ranks || (ranks->size == 1 && config.runtime.device != "cuda")) return;
  rank_ = ranks->rank, size_ = ranks->size;
  check(config.runtime.device == "cuda", "the environment asks for ", size_,
        " processes that train together, which need a GPU each; use the device cuda, or unset WORLD_SIZE");
  check(config.train.batch_size % size_ == 0, "train.batch_size = ", config.train.batch_size, " cannot be shared by ",
        size_, " processes; make it a multiple of ", size_);
  ranks_ = std::make_unique<Communicator>(*ranks, purpose_of(config, text, step), end_process);
}

Tensor Team::share(const Tensor& whole) const {
  const int64_t rows = whole.dim(0) / size_;
  return size_ == 1 ? whole : narrow(whole, 0, rank_ * rows, rows);
}

Carried Team::share(const Carried& whole) const {
  return mapped(whole, [&](const Tensor& t) { return share(t); });
}

// A sum of what each has in its rows, and zeros elsewhere.
Carried Team::gather(const Carried& shares) const {
  if (size_ == 1) return shares;
  return mapped(shares, [&](const Tensor& t) {
    std::vector<Tensor> parts(size_t(size_), zeros_like(t));
    parts[size_t(rank_)] = t;
    const Tensor whole = concat(parts, 0);
    ranks_->sum(whole);
    return whole;
  });
}

void Team::finish() {
  if (ranks_) ranks_->finish();
}
void Team::give_up(const std::string& why) {
  if (ranks_) ranks_->give_up(why);
}

}  // namespace rondo
