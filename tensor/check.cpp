#include "tensor/check.h"

#include <sstream>

namespace rondo {

void fail_with(std::initializer_list<MessagePart> parts) {
  std::ostringstream message;
  for (const MessagePart& p : parts) p.print(message, p.part);
  throw Error(message.str());
}

}  // namespace rondo
