// The scheduler behind emulation.h; what warps do together is in warp.cpp, memory and graphs are in device.cpp.
// Compiled without a sanitizer (EMULATION_TSAN and EMULATION_ASAN say what the rest has): what it does itself is no
// fault of a kernel.
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

#include "cuda/emulation/asan.h"
#ifdef EMULATION_ASAN
#include <sanitizer/common_interface_defs.h>
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
// Blocks that have fibers, and shared memory, of their own. The race detector must see no order between blocks: fibers
// in turn, and memory made before the first block runs.
#ifdef EMULATION_TSAN
constexpr unsigned kSets = 2, kMemories = ~0u;
#else
constexpr unsigned kSets = 1, kMemories = 1;
#endif

struct Fiber {
  char* stack = nullptr;
  size_t stack_size = kStack;
  void* sp;
  void* fake_stack = nullptr;
  void* tsan = nullptr;
  unsigned thread = 0;
  uint3 index{};
  Where where{};
  const char* what = "";  // the instruction it waits in
  bool done = false;
  int syncs[2] = {};  // __syncthreads, __syncwarp so far
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
  unsigned waiting, alive;
  bool early;
  char order;  // forward, reverse, or x: random
  Fiber main;  // the scheduler itself, on the stack of whoever launched
  Fiber* self = &main;
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

// Returns when another switches back to this one.
void switch_to(Fiber& to) {
  if (&to == g.self) return;
  Fiber& from = *std::exchange(g.self, &to);
  threadIdx = to.index;
  lane = int(to.thread % 32);
#ifdef EMULATION_TSAN
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef EMULATION_ASAN
  __sanitizer_start_switch_fiber(from.done ? nullptr : &from.fake_stack, to.stack, to.stack_size);
#endif
  emulation_switch(&from.sp, to.sp);
#ifdef EMULATION_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The thread to go on: the first, the last or any that is ready; the scheduler where none is.
Fiber& next() {
  const int words = int(g.thread.size() + 63) / 64;
  const auto take = [](int word, int bit) -> Fiber& {
    g.ready[word] &= ~(uint64_t(1) << bit);
    return *g.thread[unsigned(word * 64 + bit)];
  };
  if (g.order == 'r') {
    for (int i = words; i-- > 0;)
      if (g.ready[i]) return take(i, 63 - std::countl_zero(g.ready[i]));
    return g.main;
  }
  const unsigned from = g.order == 'f' ? 0 : unsigned(g.random() % g.thread.size());
  for (int i = 0, word = int(from / 64); i <= words; ++i, word = word + 1 < words ? word + 1 : 0)
    if (const uint64_t bits = g.ready[word] & (i ? ~uint64_t(0) : ~uint64_t(0) << from % 64))
      return take(word, std::countr_zero(bits));
  return g.main;
}
}  // namespace

std::string text(Where w) { return std::string(w.file) + ":" + std::to_string(w.line); }
std::string this_thread() { return text(*g.self); }
void fail(const std::string& message) {
  g.failure = message;
  if (g.self == &g.main) throw Error(message);
  release(&end_tag);
  for (;;) switch_to(g.main);
}

namespace {
// Those threads of a warp whose bit is set.
void set_ready(unsigned warp, unsigned lanes) { g.ready[warp / 2] |= uint64_t(lanes) << warp % 2 * 32; }
void set_all_ready() {
  for (unsigned warp = 0; warp < g.thread.size() / 32; ++warp) set_ready(warp, ~0u);
}

void enter() {
#ifdef EMULATION_ASAN
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!g.main.stack) g.main.stack = static_cast<char*>(const_cast<void*>(bottom)), g.main.stack_size = size;
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
  f.done = true;
  --g.alive;
  switch_to(g.exception ? g.main : next());
  std::abort();
}

void prepare(Fiber& f, unsigned thread) {
  // Stacks that began at the same place of a page would share a few sets of the caches.
  char* const top = f.stack + kStack - thread % 64 * 17 * 64;
  allow(top - 4096, 4096);  // the frame of `enter`, which never returned
  void** sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  f.sp = sp;
  f.thread = thread;
  f.index = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
  f.syncs[0] = f.syncs[1] = 0;
  f.copies.clear();
  f.done = f.waited = false;
  f.copied = f.group = 0;
}

void stuck() {
  std::string s = "no thread can go on:";
  int shown = 0;
  for (Fiber* f : g.thread) {
    Fiber* last = shown ? g.thread[f->thread - 1] : nullptr;
    if (last && last->done == f->done && (f->done || last->where.line == f->where.line)) continue;
    if (++shown > 6) break;
    s += "\n  " + text(*f) + (f->done ? " has ended" : std::string(" waits in ") + f->what + " at " + text(f->where)) +
         ", and those after it up to:";
  }
  fail(s + " the end");
}

void run_block() {
  for (unsigned t = 0; t < g.thread.size(); ++t) prepare(*g.thread[t], t);
  set_all_ready();
  g.alive = unsigned(g.thread.size());
  g.waiting = 0;
  switch_to(next());  // which comes back when all have ended, none can go on, or one failed
  if (g.exception || !g.failure.empty()) acquire(&end_tag);
  if (g.exception) std::rethrow_exception(std::exchange(g.exception, nullptr));
  if (!g.failure.empty()) throw Error(g.failure);
  if (g.alive) stuck();
}

Fiber& fiber(unsigned i) {
  while (g.pool.size() <= i) {
    auto f = std::make_unique<Fiber>();
    f->stack = static_cast<char*>(
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    allow(f->stack, kStack);
#ifdef EMULATION_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    g.pool.push_back(std::move(f));
  }
  return *g.pool[i];
}

// The lanes of a warp that have arrived at one of its instructions.
struct Group {
  unsigned mask, arrived;  // no mask: it is not in use
  const char* what;
  int line;
  void* operands[32];  // of those lanes
};
// Of each warp, those that some lane waits in, among the first n. They are never copied: where that is a call of
// memcpy, the race detector takes it for the kernel's.
struct {
  int n;
  Group all[32];
} groups[kMaxThreads / 32];
}  // namespace

void run(dim3 grid, dim3 block, size_t shared, bool early, Where where, const std::function<void()>& thread) {
  unsigned threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
  if (!threads || threads > kMaxThreads || threads % 32)
    throw Error(text(where) + ": a block of " + std::to_string(threads) + " threads");
  if (!blocks || grid.y > 65535 || grid.z > 65535)
    throw Error(text(where) + ": a grid of " + std::to_string(blocks) + " blocks");
  if (shared > kMaxShared) throw Error(text(where) + ": " + std::to_string(shared) + " bytes of shared memory");
  std::string how = order();
  g.order = how[0] == 'f' ? 'f' : how.substr(0, 3) == "rev" ? 'r' : 'x';
  if (size_t colon = how.find(':'); colon != how.npos) g.random.seed(unsigned(std::atoi(how.c_str() + colon + 1)));
  blockDim = block, gridDim = grid, g.body = &thread, g.early = early;
  for (auto& warp : groups) warp.n = 0;
  g.failure.clear();
  std::memset(g.ready, 0, sizeof g.ready);
  std::vector<std::unique_ptr<char, decltype(&std::free)>> memory;
  for (unsigned i = 0; shared && i < std::min(blocks, kMemories); ++i) {
    void* p = nullptr;
    if (posix_memalign(&p, 128, shared)) throw std::bad_alloc();
    std::memset(p, 0xff, shared);
    memory.emplace_back(static_cast<char*>(p), &std::free);
  }
  std::vector<Tags> tags(blocks);
  g.shared = nullptr, g.shared_size = shared;
  g.main.stack = nullptr;
#ifdef EMULATION_TSAN
  g.main.tsan = __tsan_get_current_fiber();
#endif
  for (unsigned i = 0; i < threads * std::min(blocks, kSets); ++i) fiber(i);
  release(&main_tag);
  g.thread.resize(threads);
  try {
    std::vector<unsigned> sequence(blocks);
    std::iota(sequence.begin(), sequence.end(), 0u);
    if (g.order == 'r') std::reverse(sequence.begin(), sequence.end());
    if (g.order == 'x') std::shuffle(sequence.begin(), sequence.end(), g.random);
    for (unsigned i = 0; i < blocks; ++i) {
      unsigned b = sequence[i];
      blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
      if (shared) {
        g.shared = memory[i % kMemories].get();
        if (i >= kMemories) std::memset(g.shared, 0xff, shared);
      }
      g.tags = &tags[b];
      for (unsigned t = 0; t < threads; ++t) g.thread[t] = &fiber(i % kSets * threads + t);
      run_block();
    }
  } catch (...) {
    g.self = &g.main;
    for (auto& f : g.pool) {
#ifdef EMULATION_TSAN
      __tsan_switch_to_fiber(f->tsan, 0);  // what it did comes before what follows here
      __tsan_switch_to_fiber(g.main.tsan, 0);
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

void* shared_memory(size_t bytes, Where where) {
  if (bytes > g.shared_size)
    fail(text(where) + ": " + std::to_string(bytes) + " bytes of shared memory used, " + std::to_string(g.shared_size) +
         " launched");
  return g.shared;
}

void sync_block(Where where) {
  Fiber& f = *g.self;
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
    set_all_ready();
  }
  switch_to(next());
  acquire(&g.tags->block[tag]);
}

void together(const char* what, unsigned mask, void* mine, Where where, CarryOut carry_out) {
  Fiber& f = *g.self;
  const unsigned me = 1u << lane;
  f.what = what, f.where = where;
  if (!(mask & me)) fail(text(where) + ": " + text(f) + " calls " + what + " with a mask without itself");
  auto& warp = groups[f.thread / 32];
  Group *group = nullptr, *free = nullptr;
  for (int i = 0; i < warp.n; ++i) {
    Group& o = warp.all[i];
    if (o.mask == 0)
      free = &o;
    else if (o.mask == mask && o.what == what && o.line == where.line)
      group = &o;
    else if (o.mask & mask & (me | o.arrived))
      fail(text(where) + ": " + text(f) + " calls " + what + ", where other lanes of its warp wait in " + o.what +
           " at line " + std::to_string(o.line) + " with mask " + std::to_string(o.mask));
  }
  if (!group) {
    group = free ? free : &warp.all[warp.n++];
    group->mask = mask, group->arrived = 0, group->what = what, group->line = where.line;
  }
  group->operands[lane] = mine;
  if ((group->arrived |= me) == mask) {
    carry_out(mask, group->operands);
    set_ready(f.thread / 32, mask);
    group->mask = 0;
    while (warp.n > 0 && warp.all[warp.n - 1].mask == 0) --warp.n;
  }
  switch_to(next());
}

void sync_warp(unsigned mask, Where where) {
  Fiber& f = *g.self;
  void* tag = &g.tags->warp[f.thread / 32][f.syncs[1]++ & 1];
  release(tag);
  together("__syncwarp", mask, nullptr, where, [](unsigned, void* const*) {});
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
