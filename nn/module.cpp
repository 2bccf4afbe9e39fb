#include "nn/module.h"

#include <unordered_map>

#include "tensor/check.h"

namespace rondo {

void check_distinct(const char* who, const std::vector<NamedTensor>& parameters) {
  std::unordered_map<uint64_t, const std::string*> names;
  for (const NamedTensor& p : parameters) {
    check(bool(p.tensor), who, ": parameter ", p.name, " is empty");
    const auto [place, is_new] = names.emplace(p.tensor.id(), &p.name);
    check(is_new, who, ": parameters ", *place->second, " and ", p.name,
          " are the same tensor; a layer's each() visits a tensor that is used twice once");
  }
}

}  // namespace rondo
