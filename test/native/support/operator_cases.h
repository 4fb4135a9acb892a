// What the cases of all operators share (engine/operators_test.cc).
#pragma once
#include <cstdint>
#include <vector>

#include "engine/operators.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/operator_testing.h"

// A new operator has its case in engine/operators/, or the tests do not link.
#define BILLFISH_CASE(Name) void check_##Name(billfish::OperatorBench& bench);
BILLFISH_BACKEND_OPERATORS(BILLFISH_CASE)
#undef BILLFISH_CASE

constexpr auto activation = billfish::ValueClass::activation, residual = billfish::ValueClass::residual;

struct Width {
  int64_t columns, gap;
};
// Rows that are read as whole vectors, and rows that cannot be; shorter than a vector, and of several pieces.
constexpr Width widths[] = {{1, 0},   {5, 3},    {8, 8},   {16, 3},   {31, 3},   {64, 0},
                            {130, 3}, {136, 24}, {200, 1}, {1100, 4}, {2048, 3}, {4104, 8}};

// Rows of tokens at these positions, each a sequence of its own.
inline billfish::Batch batch_at(const std::vector<int32_t>& positions) {
  billfish::Batch batch;
  batch.positions = positions;
  batch.tokens.resize(positions.size());
  for (size_t i = 0; i < positions.size(); ++i) batch.sequences.push_back({static_cast<int32_t>(i), 1, positions[i]});
  return batch;
}
