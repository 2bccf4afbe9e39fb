// NCCL between processes of one machine, for tests: each writes its numbers into memory that all share, and adds up
// those of all ranks in their order.
#include "cuda/nccl.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/emulation/emulation.h"
#include "tensor/dtype.h"

namespace rondo::cuda {

// All zeros at first.
struct Meeting {
  std::atomic<int> arrived, times;
};

struct NcclComm {
  static constexpr size_t kPart = 1 << 12;  // bytes that a rank shows at a time

  static constexpr size_t kHead = 64;  // before them

  int size, rank;
  char* memory = nullptr;
  std::shared_ptr<int> used = std::make_shared<int>();  // by work that is written down

  size_t bytes() const { return kHead + kPart * size_t(size); }
  char* part(int r) const { return memory + kHead + kPart * size_t(r); }
  // Waits until all ranks are here.
  void meet() const {
    Meeting& m = *reinterpret_cast<Meeting*>(memory);
    const int time = m.times;
    if (++m.arrived == size) {
      m.arrived = 0;
      ++m.times;
    }
    while (m.times == time) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
};

namespace {

template <class T>
void all_reduce(const NcclComm& c, const T* from, T* to, size_t n, NcclOp op) {
  for (size_t begin = 0; begin < n;) {
    const size_t m = std::min(n - begin, NcclComm::kPart / sizeof(T));
    std::memcpy(c.part(c.rank), from + begin, m * sizeof(T));
    c.meet();
    for (size_t i = 0; i < m; ++i) {
      double sum = 0;
      for (int r = 0; r < c.size; ++r) sum += converted<double>(reinterpret_cast<const T*>(c.part(r))[i]);
      to[begin + i] = converted<T>(op == NcclOp::mean ? sum / c.size : sum);
    }
    c.meet();
    begin += m;
  }
}

int new_id(NcclId* id) {
  *id = {};
  const std::string name = "/rondo-emulated-" + std::to_string(std::random_device()());
  std::copy(name.begin(), name.end(), id->bytes);
  return 0;
}

int open_comm(NcclComm** comm, int size, NcclId id, int rank) {
  auto* c = new NcclComm{size, rank};
  const int file = shm_open(id.bytes, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, off_t(c->bytes())) != 0) return 2;
  void* const memory = mmap(nullptr, c->bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return 2;
  c->memory = static_cast<char*>(memory);
  c->meet();
  if (rank == 0) shm_unlink(id.bytes);
  *comm = c;
  return 0;
}

int abort_comm(NcclComm* comm) {
  munmap(comm->memory, comm->bytes());
  delete comm;
  return 0;
}

int close_comm(NcclComm* comm) {
  if (comm->used.use_count() > 1) {
    std::fputs("emulated NCCL: a graph holds work of a group that is left, where NCCL would wait forever\n", stderr);
    std::abort();
  }
  return abort_comm(comm);
}

int begin_all_reduce(const void* from, void* to, size_t n, NcclType type, NcclOp op, NcclComm* comm,
                     CUstream_st* stream) {
  emulation::check_pointer(from, emulation::Where::current());
  emulation::check_pointer(to, emulation::Where::current());
  const void* const pointers[] = {from, to};
  const auto work = [&]<class T>(T) {
    emulation::submit_beside(stream, pointers, [=, used = comm->used] {
      all_reduce(*comm, static_cast<const T*>(from), static_cast<T*>(to), n, op);
    });
  };
  switch (type) {
    case NcclType::i64:
      return work(int64_t()), 0;
    case NcclType::f32:
      return work(float()), 0;
    case NcclType::f64:
      return work(double()), 0;
    case NcclType::bf16:
      return work(bf16()), 0;
  }
  return 4;
}

}  // namespace

const Nccl& nccl() {
  static const Nccl emulated = {new_id,
                                open_comm,
                                close_comm,
                                abort_comm,
                                [] { return 0; },
                                [] { return 0; },
                                begin_all_reduce,
                                [](int status) { return status == 2 ? "system error" : "invalid argument"; },
                                [](NcclComm*) { return "emulated"; }};
  return emulated;
}

}  // namespace rondo::cuda
