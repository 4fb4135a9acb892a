// A program: the list of operators that one stage runs for every step.
//
// TypeScript traces it once from the model's definition and fuses neighbors (src/models/program.ts); validate() checks
// it whole before anything is counted or run, so that no program, however wrong, can touch memory that is not its own.
#pragma once
#include <vector>

#include "engine/operators.h"

namespace billfish {

struct Program {
  std::vector<Value> values;
  std::vector<RopeSpec> ropes;
  std::vector<CacheLayer> cache_layers;
  std::vector<StateLayer> state_layers;
  std::vector<Operator> operators;
  ValueId input = no_value;  // hidden states from the stage before; none in the first stage
  // Hidden states for the next stage; in the last the logits, or the normed hidden states of a model without a head.
  // None of a branch (link.h).
  ValueId output = no_value;
  bool hands_over = false;  // whether the output is for a next stage
};

// Throws INTERNAL (a program comes from our own tracer) naming the operator and what does not fit: values that are read
// before they are written, or shapes and weights that do not fit. Throws UNSUPPORTED_MODEL for sizes that no machine
// has.
void validate(const Program& program, const std::vector<WeightShape>& weights);

// Whether a stage's ranks, or a stage and its branch, meet in it: collectives, and what goes over links.
bool is_exchange(const Operator& op);

// Throws INTERNAL unless the programs of a stage's ranks have the same exchanges, receive only what the others have,
// and have a collective between what they receive from a branch and what they send next.
void validate_ranks(const std::vector<const Program*>& programs);

}  // namespace billfish
