// Warp shuffles and votes in the emulator.
#pragma once
#include <cstdint>

#include "machine/grid.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

constexpr uint32_t all_lanes = 0xffffffffu;

template <class T>
struct ShuffleOperand {
  T value;
  uint32_t source;  // the requested lane; this lane if there is none
  T result;
};

// Faults where the hardware's result is undefined: when the lane that is asked for takes no part.
template <class T>
T shuffle_from(const char* operation, T value, uint32_t source, uint32_t lanes, Location at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  ShuffleOperand<T> operand{value, source, value};
  emulator::warp_operation(operation, lanes, operand, at, [&](ShuffleOperand<T>** operands, uint32_t present) {
    for (uint32_t lane = 0; lane < emulator::warp_lanes; ++lane) {
      if ((present >> lane & 1) == 0) continue;
      const uint32_t from = operands[lane]->source;
      if ((present >> from & 1) == 0) {
        emulator::fault(std::string(operation) + ": lane " + std::to_string(lane) + " asks for the value of lane " +
                            std::to_string(from) + ", which takes no part",
                        at);
      }
      operands[lane]->result = operands[from]->value;
    }
  });
  return operand.result;
}

template <class T>
T shuffle(T value, int source, int width = 32, uint32_t lanes = all_lanes, Location at = Location::current()) {
  const uint32_t lane = emulator::running()->lane, group = lane & ~static_cast<uint32_t>(width - 1);
  return shuffle_from("shuffle", value, group | (static_cast<uint32_t>(source) & static_cast<uint32_t>(width - 1)),
                      lanes, at);
}
template <class T>
T shuffle_xor(T value, int lane_mask, int width = 32, uint32_t lanes = all_lanes, Location at = Location::current()) {
  const uint32_t lane = emulator::running()->lane, other = lane ^ static_cast<uint32_t>(lane_mask);
  const uint32_t end = (lane & ~static_cast<uint32_t>(width - 1)) + static_cast<uint32_t>(width);
  return shuffle_from("shuffle_xor", value, other < end ? other : lane, lanes, at);
}
template <class T>
T shuffle_up(T value, unsigned delta, int width = 32, uint32_t lanes = all_lanes, Location at = Location::current()) {
  const uint32_t lane = emulator::running()->lane, within = lane & static_cast<uint32_t>(width - 1);
  return shuffle_from("shuffle_up", value, within >= delta ? lane - delta : lane, lanes, at);
}
template <class T>
T shuffle_down(T value, unsigned delta, int width = 32, uint32_t lanes = all_lanes, Location at = Location::current()) {
  const uint32_t lane = emulator::running()->lane, within = lane & static_cast<uint32_t>(width - 1);
  return shuffle_from("shuffle_down", value, within + delta < static_cast<uint32_t>(width) ? lane + delta : lane, lanes,
                      at);
}

struct BallotOperand {
  bool condition;
  uint32_t result;
};

inline uint32_t ballot(bool condition, uint32_t lanes = all_lanes, Location at = Location::current()) {
  BallotOperand operand{condition, 0};
  emulator::warp_operation("ballot", lanes, operand, at, [](BallotOperand** operands, uint32_t present) {
    uint32_t votes = 0;
    for (uint32_t lane = 0; lane < emulator::warp_lanes; ++lane) {
      if ((present >> lane & 1) != 0 && operands[lane]->condition) votes |= uint32_t{1} << lane;
    }
    for (uint32_t lane = 0; lane < emulator::warp_lanes; ++lane) {
      if ((present >> lane & 1) != 0) operands[lane]->result = votes;
    }
  });
  return operand.result;
}
inline bool any(bool condition, uint32_t lanes = all_lanes, Location at = Location::current()) {
  return ballot(condition, lanes, at) != 0;
}
inline bool all(bool condition, uint32_t lanes = all_lanes, Location at = Location::current()) {
  return ballot(!condition, lanes, at) == 0;
}

}  // namespace billfish::BILLFISH_TARGET
