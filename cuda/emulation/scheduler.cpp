// The scheduler behind emulation.h; what warps do together is in warp.cpp, memory and graphs are in device.cpp.
// Compiled without -fsanitize=thread (EMULATION_TSAN says that the rest has it): its own accesses are no races.
#include "cuda/emulation/scheduler.h"

#include <sys/mman.h>
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>
#ifdef EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) (void(p), void(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) (void(p), void(n))
#endif
#ifdef EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
#endif

extern "C" void emulation_switch(void** save, void* load);
#ifdef __x86_64__
asm(R"(.text
.type emulation_switch,@function
emulation_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
#else
#error "emulation_switch is written for x86-64 only"
#endif

namespace emulation {
namespace {
constexpr size_t kStack = 256 * 1024;
constexpr int kMaxThreads = 1024;
constexpr size_t kMaxShared = 163 * 1024;  // of a block on an A100, the least of those it is compiled for
#ifdef EMULATION_TSAN
constexpr unsigned kSets = 2;  // of fibers, in turn: nothing orders a block after the one before
#else
constexpr unsigned kSets = 1;
#endif

enum State { kReady, kAtBarrier, kInWarp, kDone };

struct Fiber {
  char* stack;
  void* sp;
  void* fake_stack = nullptr;
  void* tsan = nullptr;
  unsigned thread = 0;
  uint3 index{};
  State state = kDone;
  Where where{};
  const char* what = "";     // the instruction it waits in
  void* operands = nullptr;  // this lane's
  int syncs[2] = {};         // __syncthreads, __syncwarp so far
  std::vector<Copy> copies;
  size_t copied = 0;
  int group = 0;
  bool waited = false;  // for the kernel before
};

// What the race detector takes for order: launches after one another, and the barriers of each block, two in turn.
struct Tags {
  char block[2], warp[kMaxThreads / 32][2];
};
char main_tag, end_tag;

struct {
  std::vector<std::unique_ptr<Fiber>> pool;
  std::vector<Fiber*> thread;  // of the running block, by thread number
  uint64_t ready[kMaxThreads / 64];
  unsigned waiting, alive, early;
  Fiber* self = nullptr;
  void* main_sp;
  void* main_tsan;
  const void* main_bottom;
  size_t main_size;
  char* shared;
  size_t shared_size;
  Tags* tags;
  const std::function<void()>* body;
  std::string failure;
  std::exception_ptr exception;
  std::mt19937 random{1};
} g;

std::string order() {
  const char* s = std::getenv("EMULATION_ORDER");
  return s ? s : "forward";
}
std::string text(const Fiber& f) {
  return "thread " + std::to_string(f.thread) + " of block (" + std::to_string(blockIdx.x) + "," +
         std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) + ")";
}

void acquire([[maybe_unused]] void* tag) {
#ifdef EMULATION_TSAN
  __tsan_acquire(tag);
#endif
}
void release([[maybe_unused]] void* tag) {
#ifdef EMULATION_TSAN
  __tsan_release(tag);
#endif
}

void resume(Fiber& f) {
  g.self = &f;
  threadIdx = f.index;
#ifdef EMULATION_TSAN
  __tsan_switch_to_fiber(f.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef EMULATION_ASAN
  void* fake;
  __sanitizer_start_switch_fiber(&fake, f.stack, kStack);
#endif
  emulation_switch(&g.main_sp, f.sp);
#ifdef EMULATION_ASAN
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}
void yield() {
  Fiber& f = *g.self;
#ifdef EMULATION_TSAN
  __tsan_switch_to_fiber(g.main_tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef EMULATION_ASAN
  __sanitizer_start_switch_fiber(f.state == kDone ? nullptr : &f.fake_stack, g.main_bottom, g.main_size);
#endif
  emulation_switch(&f.sp, g.main_sp);
#ifdef EMULATION_ASAN
  __sanitizer_finish_switch_fiber(f.fake_stack, nullptr, nullptr);
#endif
}
}  // namespace

std::string text(Where w) { return std::string(w.file) + ":" + std::to_string(w.line); }
std::string this_thread() { return text(*g.self); }
void fail(const std::string& message) {
  g.failure = message;
  if (!g.self) throw Error(message);
  release(&end_tag);
  for (;;) yield();
}

namespace {
void set_ready(Fiber& f) {
  f.state = kReady;
  g.ready[f.thread / 64] |= uint64_t(1) << f.thread % 64;
}

void enter() {
#ifdef EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &g.main_bottom, &g.main_size);
#endif
  Fiber& f = *g.self;
  acquire(&main_tag);
  try {
    (*g.body)();
    if (g.early && !f.waited) throw Error("launched early, but " + text(f) + " does not wait for the kernel before");
  } catch (...) {
    g.exception = std::current_exception();
  }
  release(&end_tag);
  f.state = kDone;
  --g.alive;
  yield();
  std::abort();
}

void prepare(Fiber& f, unsigned thread) {
  ASAN_UNPOISON_MEMORY_REGION(f.stack + kStack - 4096, 4096);  // the frame of `enter`, which never returned
  void** sp = reinterpret_cast<void**>(f.stack + kStack);
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  f.sp = sp;
  f.thread = thread;
  f.index = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
  f.syncs[0] = f.syncs[1] = 0;
  f.copies.clear();
  f.waited = false;
  f.copied = f.group = 0;
  set_ready(f);
}

// The thread to go on: the first, the last or any that is ready.
int pick(char order) {
  int words = int(g.thread.size() + 63) / 64;
  if (order == 'r') {
    for (int i = words; i-- > 0;)
      if (g.ready[i]) return i * 64 + 63 - std::countl_zero(g.ready[i]);
    return -1;
  }
  unsigned from = order == 'f' ? 0 : unsigned(g.random() % g.thread.size());
  for (int i = 0; i <= words; ++i) {
    int word = (int(from / 64) + i) % words;
    uint64_t bits = g.ready[word] & (i ? ~uint64_t(0) : ~uint64_t(0) << from % 64);
    if (bits) return word * 64 + std::countr_zero(bits);
  }
  return -1;
}

void stuck() {
  std::string s = "no thread can go on:";
  int shown = 0;
  for (Fiber* f : g.thread) {
    Fiber* last = shown ? g.thread[f->thread - 1] : nullptr;
    if (last && last->state == f->state && (f->state == kDone || last->where.line == f->where.line)) continue;
    if (++shown > 6) break;
    s += "\n  " + text(*f) +
         (f->state == kDone ? " has ended" : std::string(" waits in ") + f->what + " at " + text(f->where)) +
         ", and those after it up to:";
  }
  fail(s + " the end");
}

void run_block(char order) {
  for (unsigned t = 0; t < g.thread.size(); ++t) prepare(*g.thread[t], t);
  g.alive = unsigned(g.thread.size());
  g.waiting = 0;
  while (g.alive) {
    int t = pick(order);
    g.self = nullptr;
    if (t < 0) stuck();
    g.ready[t / 64] &= ~(uint64_t(1) << t % 64);
    resume(*g.thread[unsigned(t)]);
    g.self = nullptr;
    if (g.exception || !g.failure.empty()) acquire(&end_tag);
    if (g.exception) std::rethrow_exception(std::exchange(g.exception, nullptr));
    if (!g.failure.empty()) throw Error(g.failure);
  }
}

Fiber& fiber(unsigned i) {
  while (g.pool.size() <= i) {
    auto f = std::make_unique<Fiber>();
    f->stack = static_cast<char*>(
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASAN_UNPOISON_MEMORY_REGION(f->stack, kStack);
#ifdef EMULATION_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    g.pool.push_back(std::move(f));
  }
  return *g.pool[i];
}

// The lanes of a warp that have arrived at one of its instructions.
struct Group {
  unsigned mask, arrived;
  const char* what;
  int line;
};
std::vector<Group> groups[kMaxThreads / 32];  // of each warp, those some lane waits in
}  // namespace

void run(dim3 grid, dim3 block, size_t shared, bool early, Where where, const std::function<void()>& thread) {
  unsigned threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
  if (!threads || threads > kMaxThreads || threads % 32)
    throw Error(text(where) + ": a block of " + std::to_string(threads) + " threads");
  if (!blocks || grid.y > 65535 || grid.z > 65535)
    throw Error(text(where) + ": a grid of " + std::to_string(blocks) + " blocks");
  if (shared > kMaxShared) throw Error(text(where) + ": " + std::to_string(shared) + " bytes of shared memory");
  Devices open;
  std::string how = order();
  char order = how[0] == 'f' ? 'f' : how.substr(0, 3) == "rev" ? 'r' : 'x';
  if (size_t colon = how.find(':'); colon != how.npos) g.random.seed(unsigned(std::atoi(how.c_str() + colon + 1)));
  blockDim = block, gridDim = grid, g.body = &thread, g.early = early;
  for (auto& warp : groups) warp.clear();
  g.failure.clear();
  std::memset(g.ready, 0, sizeof g.ready);
  // Every block's shared memory is its own, made before the first block runs: so the race detector sees no order
  // between blocks.
  std::vector<std::unique_ptr<char, decltype(&std::free)>> memory;
  for (unsigned b = 0; shared && b < blocks; ++b) {
    void* p = nullptr;
    if (posix_memalign(&p, 128, shared)) throw std::bad_alloc();
    std::memset(p, 0xff, shared);
    memory.emplace_back(static_cast<char*>(p), &std::free);
  }
  std::vector<Tags> tags(blocks);
  g.shared_size = shared;
#ifdef EMULATION_TSAN
  g.main_tsan = __tsan_get_current_fiber();
#endif
  for (unsigned i = 0; i < threads * std::min(blocks, kSets); ++i) fiber(i);
  release(&main_tag);
  g.thread.resize(threads);
  try {
    std::vector<unsigned> sequence(blocks);
    std::iota(sequence.begin(), sequence.end(), 0u);
    if (order == 'r') std::reverse(sequence.begin(), sequence.end());
    if (order == 'x') std::shuffle(sequence.begin(), sequence.end(), g.random);
    for (unsigned i = 0; i < blocks; ++i) {
      unsigned b = sequence[i];
      blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
      g.shared = shared ? memory[b].get() : nullptr;
      g.tags = &tags[b];
      for (unsigned t = 0; t < threads; ++t) g.thread[t] = &fiber(i % kSets * threads + t);
      run_block(order);
    }
  } catch (...) {
    g.self = nullptr;
    for (auto& f : g.pool) {
#ifdef EMULATION_TSAN
      __tsan_switch_to_fiber(f->tsan, 0);  // what it did comes before what follows here
      __tsan_switch_to_fiber(g.main_tsan, 0);
      __tsan_destroy_fiber(f->tsan);
#endif
      munmap(f->stack, kStack);
    }
    g.pool.clear();
    throw;
  }
  acquire(&end_tag);
}

void wait_for_previous_grid() { g.self->waited = true; }
int lane() { return int(g.self->thread % 32); }

void* shared_memory(size_t bytes, Where where) {
  if (bytes > g.shared_size)
    fail(text(where) + ": " + std::to_string(bytes) + " bytes of shared memory used, " + std::to_string(g.shared_size) +
         " launched");
  return g.shared;
}

void sync_block(Where where) {
  Fiber& f = *g.self;
  f.state = kAtBarrier;
  f.what = "__syncthreads";
  f.where = where;
  int tag = f.syncs[0]++ & 1;
  release(&g.tags->block[tag]);
  if (++g.waiting == g.thread.size()) {
    for (Fiber* o : g.thread)
      if (o->where.line != where.line)
        fail(text(f) + " is at the __syncthreads of " + text(where) + ", thread " + std::to_string(o->thread) +
             " at the one of " + text(o->where));
    g.waiting = 0;
    for (Fiber* o : g.thread) set_ready(*o);
  }
  yield();
  acquire(&g.tags->block[tag]);
}

void together(const char* what, unsigned mask, void* mine, Where where, void (*carry_out)(void* const* all)) {
  Fiber& f = *g.self;
  const unsigned first = f.thread & ~31u, me = 1u << f.thread % 32;
  f.state = kInWarp, f.what = what, f.where = where, f.operands = mine;
  if (!(mask & me)) fail(text(where) + ": " + text(f) + " calls " + what + " with a mask without itself");
  auto& warp = groups[first / 32];
  Group* mine_too = nullptr;
  for (Group& o : warp)
    if (o.mask == mask && o.what == what && o.line == where.line)
      mine_too = &o;
    else if (o.mask & mask & (me | o.arrived))
      fail(text(where) + ": " + text(f) + " calls " + what + ", where other lanes of its warp wait in " + o.what +
           " at line " + std::to_string(o.line) + " with mask " + std::to_string(o.mask));
  if (!mine_too) mine_too = &warp.emplace_back(Group{mask, 0, what, where.line});
  if ((mine_too->arrived |= me) == mask) {
    warp.erase(warp.begin() + (mine_too - warp.data()));
    void* all[32] = {};
    for (unsigned l = 0; l < 32; ++l)
      if (mask >> l & 1) all[l] = g.thread[first + l]->operands, set_ready(*g.thread[first + l]);
    carry_out(all);
  }
  yield();
}

void sync_warp(unsigned mask, Where where) {
  Fiber& f = *g.self;
  void* tag = &g.tags->warp[f.thread / 32][f.syncs[1]++ & 1];
  release(tag);
  together("__syncwarp", mask, nullptr, where, [](void* const*) {});
  acquire(tag);
}

void copy_async(Copy copy) {
  copy.group = g.self->group;
  g.self->copies.push_back(copy);
}
void copy_commit() { ++g.self->group; }
bool copy_next(int pending, Copy& copy) {
  Fiber& f = *g.self;
  if (f.copied == f.copies.size() || f.copies[f.copied].group >= f.group - pending) return false;
  copy = f.copies[f.copied++];
  return true;
}
}  // namespace emulation
