// An emulated launch: a grid of blocks of warps of threads, each thread a fiber, all on one OS thread.
//
// A fiber runs until it must wait: for the other lanes of its warp (warp_operation), at a barrier, or for another
// block's write (spin). The schedule then picks the next one. It stays with a warp as long as one of its lanes can run,
// so that warps drift as far apart as barriers allow. Blocks run one after another, or concurrently if the launch is
// co-resident. If no thread can run and some have not finished, the launch is deadlocked, and the error says who waits
// where.
#pragma once
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "machine/device.h"
#include "machine/fiber.h"
#include "machine/location.h"
#include "machine/schedule.h"

namespace billfish::emulator {

struct Index {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
  std::string text() const;  // "(1, 0, 0)"
};

constexpr uint32_t warp_lanes = 32;
constexpr int barrier_count = 16;

struct Launch {
  Device* device;
  std::string kernel;
  Index grid, block;
  uint32_t shared_bytes;
  bool co_resident;
  bool programmatic;
  Schedule schedule;
  std::function<void()> body;  // what each thread runs
};

// Runs all threads to completion. Throws INTERNAL, naming kernel, block, thread and source position, if one breaks a
// rule.
void run(const Launch& launch);

class Grid;
struct Block;
struct Warp;

// A copy in flight to shared memory. It lands when somebody waits for it, and not before.
struct AsyncCopy {
  uint32_t to;  // byte offset in shared memory
  uint32_t bytes;
  uintptr_t from;      // 0: zeros
  uint32_t group = 0;  // cp.async: the thread's groups, counted from 0
};

struct GridFiber {
  Fiber fiber{Fiber::OwnStack{}};
  bool parked = false;  // at the end of a thread, ready for the next
};

struct Thread {
  Index index;
  uint32_t number = 0;  // in the block
  uint32_t lane = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  GridFiber* fiber = nullptr;
  bool finished = false;
  const char* waits_for = nullptr;
  Location waits_at;
  std::vector<AsyncCopy> copies;
  uint32_t open_group = 0;  // the cp.async group that the next commit closes
};

// An operation of several lanes of a warp.
struct WarpOperation {
  uint32_t lanes = 0;  // lanes that take part; 0: unused
  uint32_t arrived = 0;
  const char* operation = nullptr;
  Location at;
  void* operands[warp_lanes];
};

struct Warp {
  Block* block = nullptr;
  Thread* threads[warp_lanes];
  uint32_t lanes = 0;     // that exist
  uint32_t ready = 0;     // that can go on
  uint32_t spinning = 0;  // that can recheck their condition
  WarpOperation operations[warp_lanes / 2];
};

struct Barrier {
  uint32_t expected = 0, arrived = 0;
  Location at;
  uint32_t ballot_or = 0, ballot_and = 1;
  uint32_t result_or = 0, result_and = 0;
  std::vector<Thread*> waiting;
};

// An mbarrier, by its offset in shared memory.
struct PhaseBarrier {
  uint32_t expected = 0;
  uint32_t arrived = 0;
  int64_t bytes_missing = 0;  // expected and not yet copied
  uint32_t phase = 0;
  std::vector<AsyncCopy> copies;
};

struct Block {
  Grid* grid = nullptr;
  Index index;
  bool may_overlap = false;  // programmatic, and no thread has waited for the grid before this one
  std::vector<std::byte> shared;
  std::vector<uint8_t> shared_written;  // 1 for each byte that was written
  Barrier barriers[barrier_count];
  std::unordered_map<uint32_t, PhaseBarrier> phase_barriers;
};

class Grid {
 public:
  explicit Grid(const Launch& launch);
  void run();

  const Launch& launch() const { return launch_; }
  uint8_t kernel_mark() const { return kernel_mark_; }

  // For primitives, called by the thread that runs. --------------------------------------------------------------
  // Suspends the thread until another makes it ready.
  void wait(const char* what, Location at);
  void make_ready(Thread& thread);
  // Suspends the thread until no other can run.
  void spin(const char* what, Location at);
  // Something happened that a spinning thread may be waiting for.
  void note_progress() { ++progress_; }
  // Ends the thread; with an error, all threads: the launch throws it. Returns when the fiber is reused for another
  // thread.
  void end_thread(std::exception_ptr error);

 private:
  void run_blocks(const std::vector<uint64_t>& blocks);
  void set_up_block(Block& block, uint64_t number, size_t first_thread, size_t first_warp);
  Thread* pick();
  Warp* pick_warp();
  uint32_t pick_lane(uint32_t ready);
  bool wake_spinning();
  void leave_for_next();
  uint64_t random();
  std::string stuck() const;

  const Launch& launch_;
  const uint8_t kernel_mark_;  // see AddressSpace
  Fiber main_;
  std::vector<Block> blocks_;
  std::vector<Warp> warps_;
  std::vector<Thread> threads_;
  size_t unfinished_ = 0;
  Warp* current_warp_ = nullptr;
  uint64_t progress_ = 0, progress_when_woken_ = ~uint64_t{0};
  uint64_t random_state_;
  std::exception_ptr error_;
};

// The CUDA thread that is running. Valid only inside kernels.
inline Thread* running() { return static_cast<Thread*>(Fiber::occupant()); }

// Reports an error of the running thread.
[[noreturn]] void fault(const std::string& what, Location at = {});

// Faults where the code that runs on the launch's device would trap.
void require_capability(int compute_capability, const char* operation, Location at);

// --- Operations of a warp's lanes. -----------------------------------------------------------------------------------

// The operation that the running thread joins with these lanes, opened by the first of them; faults if some of the
// lanes are at another operation.
WarpOperation& join_warp_operation(const char* operation, uint32_t lanes, Location at);

// Waits until all lanes have arrived with their operands; the last to arrive calls perform(operands by lane, lanes) for
// all of them. Operands live in the lanes' stack frames.
template <class Operand, class Perform>
void warp_operation(const char* operation, uint32_t lanes, Operand& operand, Location at, const Perform& perform) {
  Thread& self = *running();
  WarpOperation& shared = join_warp_operation(operation, lanes, at);
  shared.operands[self.lane] = &operand;
  shared.arrived |= uint32_t{1} << self.lane;
  if (shared.arrived != shared.lanes) {
    self.block->grid->wait(operation, at);
    return;
  }
  perform(reinterpret_cast<Operand**>(shared.operands), shared.lanes);
  self.warp->ready |= shared.lanes;
  shared.lanes = 0;
  self.block->grid->note_progress();
}

// --- Barriers of a block's threads. --------------------------------------------------------------------------------

// bar.sync and bar.arrive. `whole_block`: every thread must arrive at the same place.
Barrier& arrive(int id, uint32_t threads, bool whole_block, bool waits, bool condition, const char* what, Location at);

}  // namespace billfish::emulator
