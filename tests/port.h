// A port that nobody listens at.
#pragma once
#include <unistd.h>

#include "tensor/check.h"
#include "tensor/socket.h"

namespace rondo::testing {

inline int free_port() {
  static int port = 20000 + int(::getpid()) % 20000;
  while (true) try {
      Socket::listen("127.0.0.1", ++port);
      return port;
    } catch (const Error&) {
    }
}

}  // namespace rondo::testing
