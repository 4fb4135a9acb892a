// Tensor-core operations and their loads in the emulator: the last lane to arrive computes for the whole warp.
#pragma once
#include <cstdint>

#include "machine/access.h"
#include "primitives/async_copy.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// The registers of one lane.
struct MmaOperand {
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};

// Numbers of T as floats; a loop that compilers vectorize.
template <class T>
void widen(const uint16_t* bits, float* values, int count) {
  for (int i = 0; i < count; ++i) values[i] = to_float(T{bits[i]});
}

// c += a * b for all lanes. Products are exact in fp32; sums are rounded in fp32, in order of k, eight products at a
// time before they are added to the accumulator (hardware orders and rounds differently).
template <class T>
void multiply_fragments(MmaOperand** lanes) {
  constexpr int k_size = 16;
  uint16_t a_bits[16][k_size], b_bits[k_size][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < k_size / 4; ++i) {  // registers of a: rows g and g + 8, then 8 columns on
      std::memcpy(&a_bits[group + i % 2 * 8][pair + i / 2 * 8], &lanes[lane]->a[i], 4);
    }
    for (int i = 0; i < k_size / 8; ++i) {
      b_bits[pair + i * 8][group] = static_cast<uint16_t>(lanes[lane]->b[i]);
      b_bits[pair + i * 8 + 1][group] = static_cast<uint16_t>(lanes[lane]->b[i] >> 16);
    }
  }
  float a[16][k_size], b[k_size][8];
  widen<T>(a_bits[0], a[0], 16 * k_size);
  widen<T>(b_bits[0], b[0], k_size * 8);
  for (int k0 = 0; k0 < k_size; k0 += 8) {
    for (int row = 0; row < 16; ++row) {
      float product[8] = {};
      for (int k = k0; k < k0 + 8; ++k) {
        for (int column = 0; column < 8; ++column) product[column] += a[row][k] * b[k][column];
      }
      const int first_lane = row % 8 * 4, first_register = row / 8 * 2;
      for (int column = 0; column < 8; ++column) {
        lanes[first_lane + column / 2]->c[first_register + column % 2] += product[column];
      }
    }
  }
}

inline void require_whole_warp(const char* operation, uint32_t lanes, Location at) {
  if (lanes != 0xffffffffu) emulator::fault(std::string(operation) + " needs all 32 lanes of a warp", at);
}

template <class T>
void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Location at = Location::current()) {
  MmaOperand operand{c, a, b};
  emulator::warp_operation("mma_m16n8k16", 0xffffffffu, operand, at, [at](MmaOperand** lanes, uint32_t present) {
    require_whole_warp("mma_m16n8k16", present, at);
    multiply_fragments<T>(lanes);
  });
}

struct LdmatrixOperand {
  uint32_t* registers;
  uintptr_t row;
};

template <int count, bool transposed = false>
void ldmatrix(uint32_t (&registers)[count], Shared<const void> row, Location at = Location::current()) {
  static_assert(count == 1 || count == 2 || count == 4);
  LdmatrixOperand operand{registers, row.address()};
  emulator::warp_operation("ldmatrix", 0xffffffffu, operand, at, [at](LdmatrixOperand** lanes, uint32_t present) {
    require_whole_warp("ldmatrix", present, at);
    for (int matrix = 0; matrix < count; ++matrix) {
      uint16_t elements[8][8];
      for (int r = 0; r < 8; ++r) {
        const uint4 bytes = emulator::load<uint4, emulator::SharedSpace>(lanes[8 * matrix + r]->row, at);
        std::memcpy(elements[r], &bytes, sizeof(bytes));
      }
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4 * 2;
        const uint32_t low = transposed ? elements[t][g] : elements[g][t];
        const uint32_t high = transposed ? elements[t + 1][g] : elements[g][t + 1];
        lanes[lane]->registers[matrix] = high << 16 | low;
      }
    }
  });
}

}  // namespace billfish::BILLFISH_TARGET
