// Processes that work together, a rank each: how they find each other, and notice that one is gone.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "socket.h"

namespace rondo {

struct Ranks {
  int rank = 0, size = 1;
  int local = 0;                      // which of its machine's GPUs is this rank's
  std::string address = "127.0.0.1";  // where rank 0 listens
  int port = 29500;
  double patience = 300;  // seconds to wait for each other at the start
};
// As the environment has them: RANK and WORLD_SIZE, or OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE, which mpirun
// sets; LOCAL_RANK or OMPI_COMM_WORLD_LOCAL_RANK (else: the rank); MASTER_ADDR, MASTER_PORT; RONDO_PATIENCE. Nothing
// where none of the first four is set: one process, on its own. Throws Error for what contradicts.
std::optional<Ranks> ranks_of_environment();

// Connections from rank 0 to every other rank. They carry a line at the start and one at the end; in between they tell,
// by breaking, that a process is gone.
class Peers {
 public:
  // Called from a thread of its own when another rank has failed or is gone, with why. What this rank waits for may
  // then never come: the process should end.
  using Lost = std::function<void(const std::string& why)>;
  // Waits until all are there. All must have been given the same `purpose`; `from_first` is what rank 0 hands out, one
  // word. Throws Error with one line where they do not come together.
  Peers(const Ranks& ranks, const std::string& purpose, const std::string& from_first, Lost lost);
  // The others see this one gone, unless it has finished or failed.
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // Rank 0's `from_first`.
  const std::string& from_first() const { return from_first_; }
  // This rank needs the others no longer, nor they it.
  void finish();
  // Tells the others why this one ends.
  void give_up(const std::string& why);

 private:
  struct Peer {
    int rank;
    Socket socket;
    bool done = false;
  };
  void gather(const Ranks& ranks, const std::string& purpose, Socket::Deadline until);
  void join(const Ranks& ranks, const std::string& purpose, Socket::Deadline until);
  void tell_all(const std::string& line) const;
  void watch();
  void stop_watching();

  std::vector<Peer> peers_;
  std::string from_first_;
  Lost lost_;
  int wake_[2] = {-1, -1};  // a pipe: when its second end is closed, the watching ends
  std::thread watching_;
};

}  // namespace rondo
