// What a model is, in words: for files that belong to one.
#pragma once
#include <map>
#include <string>

#include "models/block_recurrent/model.h"

namespace rondo {

// The sizes that a decoding state depends on, the dtype, and a fingerprint of the weights, under the names that
// messages use.
std::map<std::string, std::string> identity_of(const BlockRecurrentTransformer& model);

}  // namespace rondo
