// What info and graph look at.
#pragma once
#include <string>

#include "models/block_recurrent/model.h"

namespace rondo {

// The model of a run or checkpoint (a directory), or a fresh one of a configuration (a TOML file).
BlockRecurrentTransformer model_at(const std::string& path);

}  // namespace rondo
