// Tunings as text: what `tune` measured, kept in a file between runs.
//
//   billfish cuda tuning 1
//   device NVIDIA H200
//   panel-factor 1.08
//   tile 4 8x128x256 0.93          bits, tokens x outputs x inputs of a stage, measured / expected time
//   bulk-tile 4 8x64x1024 0.9      the same of the tiles that bulk copies fill
//   crossover 4 59392x8192 384     bits, outputs x inputs, rows from which panels are faster
//   crossover 16 8192x8192 never
//
// Lines after `device` are that device's. Empty lines and what follows a # are skipped.
#pragma once
#include <string>
#include <vector>

#include "marlin/tune.h"

namespace billfish::BILLFISH_TARGET {

// Throws INVALID_OPTION naming `source` and the line.
std::vector<GemmTuning> parse_tunings(const std::string& text, const std::string& source);

std::string tunings_text(const std::vector<GemmTuning>& tunings);

// The text with this device's tuning in place of the one it has, or added. `text` may be empty.
std::string with_tuning(const std::string& text, const std::string& source, const GemmTuning& tuning);

// The tuning of the device of this name: from the file that BILLFISH_CUDA_TUNING names ('off': from none), else from
// billfish/cuda-tuning.txt in $XDG_CACHE_HOME or ~/.cache, if it is there. Without one, factors of 1 and no crossovers.
// Throws INVALID_OPTION for a file that cannot be read or is none.
GemmTuning tuning_of(const std::string& device);

// Where BILLFISH_CUDA_TUNING or the cache folder have it; empty when that says 'off', or there is no home.
std::string tuning_path();

}  // namespace billfish::BILLFISH_TARGET
