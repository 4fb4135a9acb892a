#include "machine/grid.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <numeric>

#include "engine/error.h"

namespace billfish::emulator {

// Fibers are kept across launches. One whose thread has ended is parked, and runs another thread when it is switched
// to; one that a failure elsewhere interrupted is restarted.
static std::vector<std::unique_ptr<GridFiber>>& fibers() {
  static thread_local std::vector<std::unique_ptr<GridFiber>> all;
  return all;
}

std::string Index::text() const {
  std::string text = "(";
  text += std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
  return text;
}

// --- Setting up. ---------------------------------------------------------------------------------------------------

Grid::Grid(const Launch& launch)
    : launch_(launch),
      kernel_mark_(launch.device->memory.kernel_mark()),
      random_state_(launch.schedule.seed * 2 + 0x9e3779b97f4a7c15u) {}

uint64_t Grid::random() {  // xorshift64*
  random_state_ ^= random_state_ >> 12;
  random_state_ ^= random_state_ << 25;
  random_state_ ^= random_state_ >> 27;
  return random_state_ * 0x2545f4914f6cdd1du >> 16;
}

void Grid::run() {
  std::vector<uint64_t> order(launch_.grid.count());
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (launch_.schedule.order == Schedule::Order::reversed) std::reverse(order.begin(), order.end());
  if (launch_.schedule.order == Schedule::Order::random) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  }
  const size_t together = launch_.co_resident ? order.size() : 1;
  blocks_.resize(together);
  for (size_t first = 0; first < order.size(); first += together) {
    run_blocks({order.begin() + static_cast<ptrdiff_t>(first),
                order.begin() + static_cast<ptrdiff_t>(std::min(order.size(), first + together))});
  }
}

// The main loop of a fiber: runs whichever thread is current when it is switched to.
static void run_threads() {
  running()->fiber->fiber.entered();
  for (;;) {
    // The fiber is left outside the handler: exceptions are counted by threads of the operating system.
    std::exception_ptr error;
    try {
      running()->block->grid->launch().body();
    } catch (...) {
      error = std::current_exception();
    }
    running()->block->grid->end_thread(std::move(error));
  }
}

void Grid::set_up_block(Block& block, uint64_t number, size_t first_thread, size_t first_warp) {
  const Index& grid = launch_.grid;
  block.grid = this;
  block.index = {static_cast<uint32_t>(number % grid.x), static_cast<uint32_t>(number / grid.x % grid.y),
                 static_cast<uint32_t>(number / grid.x / grid.y)};
  block.may_overlap = launch_.programmatic;
  block.shared.assign(launch_.shared_bytes, std::byte{0xff});  // a NaN in every floating-point type
  block.shared_written.assign(launch_.shared_bytes, 0);
  block.phase_barriers.clear();
  for (Barrier& barrier : block.barriers) {
    barrier.arrived = barrier.expected = 0;
    barrier.waiting.clear();
  }
  const auto threads = static_cast<uint32_t>(launch_.block.count());
  for (uint32_t number_in_block = 0; number_in_block < threads; ++number_in_block) {
    Thread& thread = threads_[first_thread + number_in_block];
    Warp& warp = warps_[first_warp + number_in_block / warp_lanes];
    thread.number = number_in_block;
    thread.lane = number_in_block % warp_lanes;
    thread.index = {number_in_block % launch_.block.x, number_in_block / launch_.block.x % launch_.block.y,
                    number_in_block / launch_.block.x / launch_.block.y};
    thread.block = &block;
    thread.warp = &warp;
    thread.finished = false;
    thread.copies.clear();
    thread.open_group = 0;
    if (thread.lane == 0) {
      warp.block = &block;
      warp.lanes = warp.ready = warp.spinning = 0;
      for (WarpOperation& shared : warp.operations) shared.lanes = 0;
    }
    warp.threads[thread.lane] = &thread;
    warp.lanes |= uint32_t{1} << thread.lane;
    warp.ready = warp.lanes;
    thread.fiber = fibers()[first_thread + number_in_block].get();
    if (!thread.fiber->parked) thread.fiber->fiber.start(run_threads);
    thread.fiber->parked = false;
    thread.fiber->fiber.set_occupant(&thread);
  }
}

void Grid::run_blocks(const std::vector<uint64_t>& numbers) {
  const size_t threads = launch_.block.count(), warps = (threads + warp_lanes - 1) / warp_lanes;
  threads_.resize(numbers.size() * threads);
  warps_.resize(numbers.size() * warps);
  while (fibers().size() < threads_.size()) fibers().push_back(std::make_unique<GridFiber>());
  for (size_t i = 0; i < numbers.size(); ++i) set_up_block(blocks_[i], numbers[i], i * threads, i * warps);
  unfinished_ = threads_.size();
  current_warp_ = nullptr;
  progress_when_woken_ = ~uint64_t{0};
  Thread* first = pick();
  main_.switch_to(first->fiber->fiber);
  if (error_) std::rethrow_exception(error_);
}

// --- Choosing who runs. --------------------------------------------------------------------------------------------

Warp* Grid::pick_warp() {
  const Schedule::Order order = launch_.schedule.order;
  const bool stay = order != Schedule::Order::random || random() % 16 != 0;
  if (stay && current_warp_ != nullptr && current_warp_->ready != 0) return current_warp_;
  const size_t count = warps_.size(), start = order == Schedule::Order::random ? random() % count : 0;
  for (size_t i = 0; i < count; ++i) {
    Warp& warp = warps_[order == Schedule::Order::reversed ? count - 1 - i : (start + i) % count];
    if (warp.ready != 0) return &warp;
  }
  return nullptr;
}

uint32_t Grid::pick_lane(uint32_t ready) {
  switch (launch_.schedule.order) {
    case Schedule::Order::in_order:
      return static_cast<uint32_t>(std::countr_zero(ready));
    case Schedule::Order::reversed:
      return warp_lanes - 1 - static_cast<uint32_t>(std::countl_zero(ready));
    default: {
      const auto turn = static_cast<uint32_t>(random() % warp_lanes);
      return (static_cast<uint32_t>(std::countr_zero(std::rotr(ready, static_cast<int>(turn)))) + turn) % warp_lanes;
    }
  }
}

Thread* Grid::pick() {
  current_warp_ = pick_warp();
  if (current_warp_ == nullptr && wake_spinning()) current_warp_ = pick_warp();
  return current_warp_ == nullptr ? nullptr : current_warp_->threads[pick_lane(current_warp_->ready)];
}

// Lets the spinning threads look again, unless nothing has happened since they last did.
bool Grid::wake_spinning() {
  if (progress_ == progress_when_woken_) return false;
  progress_when_woken_ = progress_;
  for (Warp& warp : warps_) {
    warp.ready |= warp.spinning;
    warp.spinning = 0;
  }
  return true;
}

void Grid::leave_for_next() {
  Thread& self = *running();
  Thread* next = pick();
  if (next == &self) return;
  if (next == nullptr) {
    if (unfinished_ != 0) error_ = std::make_exception_ptr(Error("INTERNAL", stuck()));
    self.fiber->fiber.switch_to(main_);
  } else {
    self.fiber->fiber.switch_to(next->fiber->fiber);
  }
}

void Grid::wait(const char* what, Location at) {
  Thread& self = *running();
  self.waits_for = what;
  self.waits_at = at;
  self.warp->ready &= ~(uint32_t{1} << self.lane);
  ++progress_;
  leave_for_next();
  self.waits_for = nullptr;
}

void Grid::make_ready(Thread& thread) { thread.warp->ready |= uint32_t{1} << thread.lane; }

void Grid::spin(const char* what, Location at) {
  Thread& self = *running();
  self.waits_for = what;
  self.waits_at = at;
  self.warp->ready &= ~(uint32_t{1} << self.lane);
  self.warp->spinning |= uint32_t{1} << self.lane;
  leave_for_next();
  self.waits_for = nullptr;
}

void Grid::end_thread(std::exception_ptr error) {
  Thread& self = *running();
  self.fiber->parked = true;
  self.finished = true;
  self.warp->ready &= ~(uint32_t{1} << self.lane);
  --unfinished_;
  ++progress_;
  if (error == nullptr) {
    leave_for_next();
  } else {
    error_ = std::move(error);
    self.fiber->fiber.switch_to(main_);
  }
}

// --- What went wrong. ----------------------------------------------------------------------------------------------

// "32 threads, first (0, 0, 0) of block (0, 0, 0), wait at sync_threads (scale.cu:12)", a line for each place.
std::string Grid::stuck() const {
  std::map<std::string, std::pair<size_t, const Thread*>> places;
  for (const Thread& thread : threads_) {
    std::string place = "have finished";
    if (!thread.finished) place = std::string("wait at ") + thread.waits_for + " (" + thread.waits_at.text() + ")";
    auto& [count, first] = places[place];
    if (count++ == 0) first = &thread;
  }
  std::string text = "Kernel " + launch_.kernel + " on " + launch_.device->name + " is stuck (schedule " +
                     launch_.schedule.text() + "):";
  for (const auto& [place, who] : places) {
    text.append(" ").append(std::to_string(who.first)) += " thread(s), the first " + who.second->index.text() +
                                                          " of block " + who.second->block->index.text() + ", " +
                                                          place + ";";
  }
  text += " the threads that wait need the others to come. Barriers must be reached by all threads they are for";
  if (!launch_.co_resident) text += "; blocks may wait for each other only in launches that are co_resident";
  return text + ".";
}

void fault(const std::string& what, Location at) {
  const Thread& self = *running();
  const Launch& launch = self.block->grid->launch();
  std::string place = launch.kernel + ", block " + self.block->index.text() + ", thread " + self.index.text();
  if (at.line != 0) place += ", " + at.text();
  throw Error("INTERNAL", "Kernel " + place + " on " + launch.device->name + " (schedule " + launch.schedule.text() +
                              "): " + what + ".");
}

void require_capability(int compute_capability, const char* operation, Location at) {
  const Device& device = *running()->block->grid->launch().device;
  const int code = device.code_architecture;
  if (code >= compute_capability) return;
  const auto text = [](int version) { return std::to_string(version / 10) + "." + std::to_string(version % 10); };
  fault(std::string(operation) + " needs compute capability " + text(compute_capability) + ", and the code is for " +
            text(code) + " on a device of " + text(device.compute_capability),
        at);
}

// --- Meetings and barriers. ----------------------------------------------------------------------------------------

static std::string lanes_text(uint32_t lanes) {
  std::string text;
  for (uint32_t lane = 0; lane < warp_lanes; ++lane) {
    if ((lanes >> lane & 1) != 0) text.append(text.empty() ? "" : " ").append(std::to_string(lane));
  }
  return text;
}

WarpOperation& join_warp_operation(const char* operation, uint32_t lanes, Location at) {
  const Thread& self = *running();
  Warp& warp = *self.warp;
  lanes &= warp.lanes;
  if ((lanes >> self.lane & 1) == 0) {
    fault(std::string(operation) + " is called by lane " + std::to_string(self.lane) + ", which its mask leaves out",
          at);
  }
  WarpOperation* free = nullptr;
  for (WarpOperation& shared : warp.operations) {
    if (shared.lanes == 0) {
      if (free == nullptr) free = &shared;
      continue;
    }
    if ((shared.lanes & lanes) == 0) continue;
    if (shared.lanes == lanes && shared.operation == operation && shared.at == at) return shared;
    fault("the lanes of a warp have parted: lane " + std::to_string(self.lane) + " is at " + operation + ", lanes " +
              lanes_text(shared.arrived) + " wait at " + shared.operation + " (" + shared.at.text() + ") for lanes " +
              lanes_text(shared.lanes),
          at);
  }
  free->lanes = lanes;
  free->arrived = 0;
  free->operation = operation;
  free->at = at;
  return *free;
}

Barrier& arrive(int id, uint32_t threads, bool whole_block, bool waits, bool condition, const char* what, Location at) {
  Thread& self = *running();
  Grid& grid = *self.block->grid;
  if (id < 0 || id >= barrier_count) fault("there is no barrier " + std::to_string(id), at);
  const auto all = static_cast<uint32_t>(grid.launch().block.count());
  if (threads == 0 || threads > all || (threads % warp_lanes != 0 && threads != all)) {
    fault("barrier " + std::to_string(id) + " is for " + std::to_string(threads) + " threads of a block of " +
              std::to_string(all) + "; it must be whole warps",
          at);
  }
  Barrier& barrier = self.block->barriers[id];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.at = at;
    barrier.ballot_or = 0;
    barrier.ballot_and = 1;
  } else if (barrier.expected != threads) {
    fault("barrier " + std::to_string(id) + " is for " + std::to_string(threads) + " threads here and for " +
              std::to_string(barrier.expected) + " at " + barrier.at.text(),
          at);
  } else if (whole_block && !(barrier.at == at)) {
    fault("the block has parted: this thread is at " + std::string(what) + " here, others wait at the one of " +
              barrier.at.text(),
          at);
  }
  barrier.ballot_or |= condition ? 1 : 0;
  barrier.ballot_and &= condition ? 1 : 0;
  if (++barrier.arrived < barrier.expected) {
    if (waits) {
      barrier.waiting.push_back(&self);
      grid.wait(what, at);
    }
    return barrier;
  }
  barrier.arrived = 0;
  barrier.result_or = barrier.ballot_or;
  barrier.result_and = barrier.ballot_and;
  for (Thread* thread : barrier.waiting) grid.make_ready(*thread);
  barrier.waiting.clear();
  grid.note_progress();
  return barrier;
}

void run(const Launch& launch) { Grid(launch).run(); }

}  // namespace billfish::emulator
