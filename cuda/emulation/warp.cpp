// What the lanes of a warp do together: shuffles, votes, and the instructions of tensor cores, each with its scalar
// meaning. Compiled as scheduler.cpp is.
#include "cuda/emulation/scheduler.h"

namespace emulation {
namespace {

// What each lane passed, null for those outside the mask.
template <class Operands>
struct Lanes {
  unsigned mask;
  void* const* all;
  Operands* operator[](int lane) const { return mask >> lane & 1 ? static_cast<Operands*>(all[lane]) : nullptr; }
};

// The last argument, which has no captures, is called with each lane's operands in their own type.
template <class Operands, class Do>
void together(const char* what, unsigned mask, Operands& mine, Where where, Do) {
  emulation::together(what, mask, &mine, where, [](unsigned mask, void* const* all) {
    Do{}(Lanes<Operands>{mask, all});
  });
}

}  // namespace

uint64_t shuffle(unsigned mask, uint64_t bits, int from, Where where) {
  struct {
    uint64_t in, out;
    int from;
  } mine{bits, 0, from};
  if (!(mask >> from & 1))
    fail(text(where) + ": " + this_thread() + " shuffles from lane " + std::to_string(from) +
         ", which is not in the mask");
  together("__shfl_sync", mask, mine, where, [](auto all) {
    for (int l = 0; l < 32; ++l)
      if (auto* x = all[l]) x->out = all[x->from]->in;
  });
  return mine.out;
}

unsigned ballot(unsigned mask, bool vote, Where where) {
  struct {
    bool vote;
    unsigned votes;
  } mine{vote, 0};
  together("__ballot_sync", mask, mine, where, [](auto all) {
    unsigned votes = 0;
    for (int l = 0; l < 32; ++l) votes |= unsigned(all[l] && all[l]->vote) << l;
    for (int l = 0; l < 32; ++l)
      if (all[l]) all[l]->votes = votes;
  });
  return mine.votes;
}

// The fragments as the PTX manual draws them: lane l holds rows l/4 and l/4+8, columns 2·(l%4) and the next.
void mma_16x8x16(float* d, const uint32_t* a, const uint32_t* b, Where where) {
  struct {
    float* d;
    const uint32_t *a, *b;
  } mine{d, a, b};
  together("mma_16x8x16", ~0u, mine, where, [](auto all) {
    auto low = [](uint32_t x) { return std::bit_cast<float>(x << 16); };
    auto high = [](uint32_t x) { return std::bit_cast<float>(x & 0xffff0000u); };
    float A[16][16], B[16][8], D[16][8];
    for (int l = 0; l < 32; ++l) {
      for (int r = 0; r < 4; ++r) {
        int row = l / 4 + 8 * (r % 2), column = 2 * (l % 4) + 8 * (r / 2);
        A[row][column] = low(all[l]->a[r]), A[row][column + 1] = high(all[l]->a[r]);
        D[l / 4 + 8 * (r / 2)][2 * (l % 4) + r % 2] = all[l]->d[r];
      }
      for (int r = 0; r < 2; ++r) {
        int row = 2 * (l % 4) + 8 * r;
        B[row][l / 4] = low(all[l]->b[r]), B[row + 1][l / 4] = high(all[l]->b[r]);
      }
    }
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 16; ++k)
        for (int j = 0; j < 8; ++j) D[i][j] += A[i][k] * B[k][j];
    for (int l = 0; l < 32; ++l)
      for (int r = 0; r < 4; ++r) all[l]->d[r] = D[l / 4 + 8 * (r / 2)][2 * (l % 4) + r % 2];
  });
}

void load_matrices(uint32_t* r, const uint32_t (&row)[4], bool transposed, Where where) {
  struct {
    const uint32_t* row;
    uint32_t* r;
    bool transposed;
  } mine{row, r, transposed};
  together("ldmatrix", ~0u, mine, where, [](auto all) {
    auto element = [&](int matrix, int i, int j) { return all[matrix * 8 + i]->row[j / 2] >> 16 * (j % 2) & 0xffff; };
    for (int l = 0; l < 32; ++l)
      for (int m = 0; m < 4; ++m) {
        int i = l / 4, j = 2 * (l % 4);
        all[l]->r[m] = all[l]->transposed ? element(m, j, i) | element(m, j + 1, i) << 16
                                          : element(m, i, j) | element(m, i, j + 1) << 16;
      }
  });
}

}  // namespace emulation
