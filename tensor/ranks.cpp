#include "tensor/ranks.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string_view>
#include <utility>

#include "tensor/check.h"

namespace rondo {
namespace {

constexpr const char* kHello = "rondo-ranks-1";  // what a rank says first: kHello RANK SIZE PURPOSE

std::optional<int> number_of(const std::string& text, int least, int most) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value >= least && value <= most ? std::optional(value) : std::nullopt;
}

// The first of two variables that is set, as a number.
struct Variable {
  const char* name;
  std::optional<int> value;
};
Variable variable(const char* name, const char* other, int least, int most) {
  for (const char* n : {name, other})
    if (const char* text = n ? std::getenv(n) : nullptr) {
      const std::optional<int> value = number_of(text, least, most);
      check(value.has_value(), n, "=", text, " must be a whole number from ", least, " to ", most);
      return {n, value};
    }
  return {name, {}};
}

struct Hello {
  int rank, size;
  std::string purpose;
};
std::optional<Hello> hello_of(const std::string& line) {
  std::istringstream words(line);
  std::string hello;
  Hello h;
  if (!(words >> hello >> h.rank >> h.size) || hello != kHello || words.get() != ' ') return std::nullopt;
  std::getline(words, h.purpose);
  return h;
}

Socket::Deadline after(double seconds) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(int64_t(seconds * 1000));
}

}  // namespace

std::optional<Ranks> ranks_of_environment() {
  constexpr int kMost = 1 << 16;
  const Variable rank = variable("RANK", "OMPI_COMM_WORLD_RANK", 0, kMost);
  const Variable size = variable("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", 1, kMost);
  if (!rank.value && !size.value) return std::nullopt;
  const Variable &given = rank.value ? rank : size, &other = rank.value ? size : rank;
  const bool by_mpi = std::string_view(given.name).starts_with("OMPI_");
  const std::string missing =
      by_mpi ? std::string("OMPI_COMM_") + (rank.value ? "WORLD_SIZE" : "WORLD_RANK") : other.name;
  check(rank.value && size.value, given.name, " is set, but ", missing,
        " is not; set both, or neither to train in one process");
  check(*rank.value < *size.value, rank.name, "=", *rank.value, " must be below ", size.name, "=", *size.value);
  Ranks ranks{*rank.value, *size.value};
  ranks.local = variable("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", 0, kMost).value.value_or(ranks.rank);
  if (const char* address = std::getenv("MASTER_ADDR")) ranks.address = address;
  ranks.port = variable("MASTER_PORT", nullptr, 1, 65535).value.value_or(ranks.port);
  ranks.patience = variable("RONDO_PATIENCE", nullptr, 1, 1 << 20).value.value_or(int(ranks.patience));
  return ranks;
}

Peers::Peers(const Ranks& ranks, const std::string& purpose, const std::string& from_first, Lost lost)
    : from_first_(from_first), lost_(std::move(lost)) {
  check(ranks.rank >= 0 && ranks.rank < ranks.size, "rank ", ranks.rank, " is outside 0..", ranks.size - 1);
  const Socket::Deadline until = after(ranks.patience);
  if (ranks.size > 1) ranks.rank == 0 ? gather(ranks, purpose, until) : join(ranks, purpose, until);
  const bool made = pipe2(wake_, O_CLOEXEC) == 0;
  check(made, "cannot make a pipe: ", std::strerror(errno));
  watching_ = std::thread([this] { watch(); });
}

// Rank 0: waits for all the others.
void Peers::gather(const Ranks& ranks, const std::string& purpose, Socket::Deadline until) {
  const auto refuse = [&](const auto&... why) {
    std::ostringstream text;
    (text << ... << why);
    tell_all("failed " + text.str());
    fail(text.str());
  };
  const Socket door = Socket::listen(ranks.address, ranks.port);
  while (int(peers_.size()) < ranks.size - 1) {
    std::optional<Socket> socket = door.accept(until);
    if (!socket) {
      std::string missing;
      for (int r = 1; r < ranks.size; ++r)
        if (std::none_of(peers_.begin(), peers_.end(), [&](const Peer& p) { return p.rank == r; }))
          missing += (missing.empty() ? "" : ", ") + std::to_string(r);
      refuse("only ", peers_.size() + 1, " of ", ranks.size, " ranks came within ", ranks.patience,
             " s; missing: ", missing, "; start them, or set WORLD_SIZE to how many there are");
    }
    const std::optional<std::string> line = socket->read(std::min(until, after(5)));
    const std::optional<Hello> hello = line ? hello_of(*line) : std::nullopt;
    if (!hello) continue;  // somebody else, who is shut out
    const bool twice = std::any_of(peers_.begin(), peers_.end(), [&](const Peer& p) { return p.rank == hello->rank; });
    peers_.push_back({hello->rank, std::move(*socket)});
    if (hello->size != ranks.size)
      refuse("rank ", hello->rank, " was started with WORLD_SIZE=", hello->size, ", but rank 0 with ", ranks.size);
    if (twice || hello->rank == 0)
      refuse("two processes have RANK=", hello->rank, "; give each of the ", ranks.size, " its own, from 0");
    if (hello->purpose != purpose)
      refuse("rank ", hello->rank, " is to work on something else than rank 0: ", hello->purpose, " is not ", purpose);
  }
  tell_all("go " + from_first_);
}

// The other ranks: go to rank 0, and wait until it has them all.
void Peers::join(const Ranks& ranks, const std::string& purpose, Socket::Deadline until) {
  peers_.push_back({0, Socket::connect(ranks.address, ranks.port, until)});
  std::ostringstream hello;
  hello << kHello << ' ' << ranks.rank << ' ' << ranks.size << ' ' << purpose;
  peers_[0].socket.send(hello.str());
  const std::string answer = peers_[0].socket.read(until + std::chrono::seconds(5)).value_or("");
  if (answer.starts_with("failed ")) fail("rank 0: ", answer.substr(7));
  check(answer.starts_with("go "), "rank 0 did not answer at ", ranks.address, ":", ranks.port,
        "; look at what it says, or set another MASTER_PORT for all ranks");
  from_first_ = answer.substr(3);
}

void Peers::tell_all(const std::string& line) const {
  for (const Peer& p : peers_)
    if (!p.done) p.socket.send(line);
}

void Peers::watch() {
  while (true) {
    std::vector<pollfd> files = {{wake_[0], POLLIN, 0}};
    for (const Peer& p : peers_) files.push_back({p.done ? -1 : p.socket.file(), POLLIN, 0});
    if (poll(files.data(), files.size(), -1) < 0) continue;
    if (files[0].revents) return;
    for (size_t i = 0; i < peers_.size(); ++i) {
      if (!files[i + 1].revents) continue;
      const std::string line = peers_[i].socket.read(after(5)).value_or("");
      peers_[i].done = true;
      if (line == "done") continue;
      std::string why = "rank " + std::to_string(peers_[i].rank);
      why = line.starts_with("failed rank ") ? line.substr(7)
            : line.starts_with("failed ")    ? why + ": " + line.substr(7)
                                             : why + " is gone";
      tell_all("failed " + why);
      if (lost_) lost_(why);
      return;
    }
  }
}

void Peers::stop_watching() {
  if (!watching_.joinable()) return;
  ::close(std::exchange(wake_[1], -1));
  watching_.join();
  ::close(wake_[0]);
}

void Peers::finish() {
  stop_watching();
  tell_all("done");
  peers_.clear();
}

void Peers::give_up(const std::string& why) {
  stop_watching();
  tell_all("failed " + why);
  peers_.clear();
}

Peers::~Peers() { stop_watching(); }

}  // namespace rondo
