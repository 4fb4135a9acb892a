// Proves that a padded linear is the original one with zero channels added. Both are read by the readers that models
// are loaded with (binding/checkpoint), which share nothing with the code that pads (src/padding), and compared row by
// row.
//
// A channel that both have must be the same bit for bit: the numbers of a matrix, or codes, scales, zero points and the
// group of every input; and the bias. An added channel must contribute exactly zero to every reader: numbers of a
// matrix, bias and scales are +0, and codes are at the zero point. Added inputs that fill up the last group have its
// scale, so there only the codes count.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"
#include "engine/control.h"

namespace billfish {

struct PaddedLinear {
  LinearSpec original, padded;  // of a GPTQ linear with the zero points that its scheme leaves unread
  // The padded linear's channels in their order. No runs: those of the original.
  std::vector<ChannelRun> outputs, inputs;
};

// What makes the padded linear another one: the tensor, the channel, and both values. Nothing where they are the same.
// Throws Error: INVALID_CHECKPOINT where a file cannot be read or holds no such linear, ABORTED once cancelled.
//
// Compares on all threads of the pool, a slab of rows a thread. Pages of row-major tensors are given back on the way,
// those of others at the end.
std::optional<std::string> find_difference(const PaddedLinear& linear, const MappedFiles& original_files,
                                           const MappedFiles& padded_files, const Control& control);

}  // namespace billfish
