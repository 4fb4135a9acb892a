// Where a program's values lie: each in one of two arenas, of token rows and of logit rows, at a place that is used
// again once the value is dead. A function of the program and its values' element sizes alone, for plans and stages
// alike.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/program.h"

namespace billfish {

// Bytes of a value's elements, by its class, where the program runs.
struct ValueBytes {
  int64_t activation = 4, residual = 4, logits = 4;
  int64_t of(ValueClass kind) const {
    return kind == ValueClass::activation ? activation : kind == ValueClass::residual ? residual : logits;
  }
};

// In bytes: a value's rows begin at offset * (rows of the arena) and are `stride` apart.
struct Place {
  int64_t offset = 0;
  int64_t stride = 0;
};

// Places begin and rows are apart at multiples of so many bytes.
constexpr int64_t row_alignment = 64;

struct Places {
  std::vector<Place> of_value;  // a view has the place of the value that it views
  int64_t token_bytes = 0;      // of the arena a token row
  int64_t logit_bytes = 0;      // of the arena a logit row
};

// Of a valid program. A value holds its place from the operator that writes it to the last one that reads it or a view
// of it.
Places place_values(const Program& program, const ValueBytes& bytes);

}  // namespace billfish
