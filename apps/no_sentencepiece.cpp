// In place of sentencepiece.cpp where the library was not there.
#include "apps/sentencepiece.h"
#include "tensor/check.h"

namespace rondo {
namespace {

[[noreturn]] void fail_without() {
  fail("this rondo was built without SentencePiece; build it again with libsentencepiece-dev installed");
}

}  // namespace

bool have_sentencepiece() { return false; }

struct SentencePiece::Library {};
SentencePiece::SentencePiece(const std::string&, const std::string&) { fail_without(); }
SentencePiece::~SentencePiece() = default;
int64_t SentencePiece::size() const { fail_without(); }
SentencePiece::Pieces SentencePiece::encode(std::string_view) const { fail_without(); }
std::string SentencePiece::text_of(int64_t) const { fail_without(); }
std::string learn_pieces(std::string_view, int64_t) { fail_without(); }

}  // namespace rondo
