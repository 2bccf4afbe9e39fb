// Lines of text between processes, over TCP.
#pragma once
#include <chrono>
#include <optional>
#include <string>

namespace rondo {

class Socket {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // Listens at a port: of this machine alone where the address is its own (127.0.0.1, localhost), else for all.
  // Throws Error where it cannot.
  static Socket listen(const std::string& address, int port);
  // The next to connect; empty when nobody has until then.
  std::optional<Socket> accept(Deadline until) const;
  // Connects, as soon as somebody listens there. Throws Error when nobody has until then, or no such address is known.
  static Socket connect(const std::string& address, int port, Deadline until);

  ~Socket();
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;

  // False when the other end is gone.
  bool send(const std::string& line) const;
  // Without its end; empty when there was no whole line until then, the other end went, or it is longer than any of
  // ours.
  std::optional<std::string> read(Deadline until) const;
  int file() const { return file_; }

 private:
  explicit Socket(int file);
  int file_ = -1;
};

}  // namespace rondo
