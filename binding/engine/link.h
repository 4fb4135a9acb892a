// A link joins a stage to one of its branches: a few operators of some of its layers on another device, such as their
// experts. The branch runs every step along with the stage, each on its own thread; they meet where one of them sends
// (operators.h) and the other one receives, in the same order. What is sent goes through a buffer in host memory.
//
// All ranks of a stage compute the same inputs of a branch, so the first one sends for all, and all receive the answer.
// They all meet the branch, in both directions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/program.h"
#include "engine/rank_group.h"

namespace billfish {

struct Link {
  Link(float* buffer, int64_t max_rows, int ranks) : buffer(buffer), max_rows(max_rows), ends(ranks + 1) {}

  // Where a value lies whose first column is `at`: its rows are packed.
  float* place(int64_t at) const { return buffer + at * max_rows; }

  float* const buffer;
  const int64_t max_rows;
  RankGroup ends;    // the stage's ranks and the branch
  size_t order = 0;  // of a search: of the operator by which the stage has sent last
};

// The columns of the buffer of each link of a stage.
std::vector<int64_t> link_widths(const Program& stage);

// Throws INTERNAL unless the branch receives what the stage sends on this link, and the other way round, in one order.
void validate_link(const Program& stage, int32_t link, const Program& branch);

}  // namespace billfish
