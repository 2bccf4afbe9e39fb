// A rank that is alone.
#pragma once
#include <memory>

#include "tensor/communicator.h"
#include "tests/testing.h"

namespace rondo::testing {

// Null, and the test skipped, where NCCL is not installed.
inline std::unique_ptr<Communicator> alone() {
  try {
    return std::make_unique<Communicator>(Ranks{0, 1}, "", Peers::Lost());
  } catch (const Error& e) {
    if (std::string_view(e.what()).find("NCCL 2.14 or later, which could not be opened") == std::string_view::npos)
      throw;
    skip(e.what());
    return nullptr;
  }
}

}  // namespace rondo::testing
