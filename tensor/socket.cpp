#include "tensor/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "tensor/check.h"

namespace rondo {
namespace {

constexpr size_t kLongestLine = 2000;

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;
Addresses addresses_of(const char* host, const std::string& address, int port) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = host ? 0 : AI_PASSIVE;
  const int code = getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
  check(code == 0, "the address ", address, " is not known: ", gai_strerror(code), "; set MASTER_ADDR");
  return {found, freeaddrinfo};
}

int open_socket() {
  const int file = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(file >= 0, "cannot make a socket: ", std::strerror(errno));
  return file;
}

void set(int file, int level, int option, int value) { setsockopt(file, level, option, &value, sizeof value); }

// Waits for something to read; false when nothing came until then.
bool wait_for(int file, Socket::Deadline until) {
  while (true) {
    const auto left = until - std::chrono::steady_clock::now();
    pollfd one{file, POLLIN, 0};
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int n = poll(&one, 1, int(std::clamp<int64_t>(ms, 0, 1 << 30)));
    if (n > 0) return true;
    if (n == 0 || errno != EINTR) return false;
  }
}

}  // namespace

// A machine that dies says nothing: the system asks, and tells within half a minute.
Socket::Socket(int file) : file_(file) {
  set(file, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(file, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(file, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(file, IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(file, IPPROTO_TCP, TCP_NODELAY, 1);
}
Socket::~Socket() {
  if (file_ >= 0) ::close(file_);
}
Socket::Socket(Socket&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

Socket Socket::listen(const std::string& address, int port) {
  const bool here = address == "localhost" || address.starts_with("127.");
  const Addresses at = addresses_of(here ? address.c_str() : nullptr, address, port);
  Socket socket(open_socket());
  set(socket.file_, SOL_SOCKET, SO_REUSEADDR, 1);
  const bool listens = ::bind(socket.file_, at->ai_addr, at->ai_addrlen) == 0 && ::listen(socket.file_, SOMAXCONN) == 0;
  check(listens, "cannot listen at port ", port, ": ", std::strerror(errno), "; set another MASTER_PORT for all ranks");
  return socket;
}

std::optional<Socket> Socket::accept(Deadline until) const {
  while (wait_for(file_, until)) {
    const int file = ::accept4(file_, nullptr, nullptr, SOCK_CLOEXEC);
    if (file >= 0) return Socket(file);
  }
  return std::nullopt;
}

Socket Socket::connect(const std::string& address, int port, Deadline until) {
  const Addresses at = addresses_of(address.c_str(), address, port);
  while (true) {
    Socket socket(open_socket());
    const auto left = std::max<Deadline::duration>(until - std::chrono::steady_clock::now(), std::chrono::seconds(1));
    const timeval most{std::chrono::ceil<std::chrono::seconds>(left).count(), 0};  // where nobody answers at all
    setsockopt(socket.file_, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    if (::connect(socket.file_, at->ai_addr, at->ai_addrlen) == 0) return socket;
    const int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    check(std::chrono::steady_clock::now() < until, "rank 0 cannot be reached at ", address, ":", port, ": ",
          std::strerror(error), "; start it too, or set MASTER_ADDR and MASTER_PORT to where it listens");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

bool Socket::send(const std::string& line) const {
  std::string text = line.substr(0, kLongestLine - 1);
  std::replace(text.begin(), text.end(), '\n', ' ');
  text += '\n';
  return ::send(file_, text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size());
}

std::optional<std::string> Socket::read(Deadline until) const {
  std::string line;
  for (char c; line.size() < kLongestLine && wait_for(file_, until) && ::recv(file_, &c, 1, 0) == 1; line += c)
    if (c == '\n') return line;
  return std::nullopt;
}

}  // namespace rondo
