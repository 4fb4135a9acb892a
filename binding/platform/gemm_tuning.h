// What was measured of the GEMM on one kind of device, in a file between runs.
//
// The cost model (cuda/gemm/tiles.h, cuda/panels/panel_choice.cu) chooses by estimates. A tuning corrects them: factors
// for what was measured against what was expected, and for the shapes that were measured the very row count from which
// panels are faster. Its text:
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
#include <cstdint>
#include <string>
#include <vector>

namespace billfish {

// A tile of the fused kernel for weights of `bits` bits.
struct TileFactor {
  int bits = 4;
  int tokens = 0, outputs = 0, inputs = 0;
  double factor = 1;  // measured time / expected time
  bool bulk = false;  // of bulk_gemm.h
};

// From `rows` rows on, panels (for 16 bits: the library) are faster for a linear of this shape.
struct Crossover {
  static constexpr int64_t never = 1'000'000'000;
  int bits = 4;
  int64_t out = 0, in = 0;
  int64_t rows = never;
};

struct GemmTuning {
  std::string device;       // its name, such as "NVIDIA H200"
  double panel_factor = 1;  // measured / expected time, by panels
  std::vector<TileFactor> tiles;
  std::vector<Crossover> crossovers;
};

// Throws INVALID_OPTION naming `source` and the line.
std::vector<GemmTuning> parse_tunings(const std::string& text, const std::string& source);

std::string tunings_text(const std::vector<GemmTuning>& tunings);

// `text`, possibly empty, with this device's tuning replaced or added.
std::string with_tuning(const std::string& text, const std::string& source, const GemmTuning& tuning);

// The tuning for a device name: from the file in BILLFISH_CUDA_TUNING ('off': none), else from billfish/cuda-tuning.txt
// in $XDG_CACHE_HOME or ~/.cache, if present. Without one, factors of 1 and no crossovers. Throws INVALID_OPTION for an
// unreadable or invalid file.
GemmTuning tuning_of(const std::string& device);

// The path from BILLFISH_CUDA_TUNING or the cache folder; empty if that is 'off', or without a home.
std::string tuning_path();

}  // namespace billfish
