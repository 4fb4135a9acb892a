// What measuring says about the GEMM on one kind of device, and the measuring itself. Plain values, declared for both
// targets, so that what calls this need know neither.
//
// The cost model (tiles.h, panel_choice.h) chooses by estimates. A tuning corrects them: factors for what was measured
// against what was expected, and for the shapes that were measured the very row count from which panels are faster.
// tuning_table.h is its way into a file and back.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace billfish {

// A linear to measure.
struct TuneShape {
  int bits = 4;  // 4, 8 or 16
  int64_t out = 0, in = 0;
  int64_t group_size = 128;  // of 4 and 8 bits; -1: one group a row
  bool zero_points = false;
};

struct TuneOptions {
  int device = 0;                 // index
  bool bfloat16 = false;          // else half
  std::vector<int64_t> rows;      // ascending: what each shape is measured with
  std::vector<TuneShape> shapes;  // at least one
  int runs = 10;                  // of which the median counts
  int launches = 16;              // of a run, one after the other
};

// A tile of the fused kernel with weights of so many bits.
struct TileFactor {
  int bits = 4;
  int tokens = 0, outputs = 0, inputs = 0;
  double factor = 1;  // measured time / expected time
  bool bulk = false;  // of gemm_bulk.h
};

// From `rows` rows on, a linear of this shape is faster by panels (for 16 bits: by the library).
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

// What was measured of a shape with a number of rows, in microseconds; 0: not measured.
struct TuneMeasurement {
  TuneShape shape;
  int64_t rows = 0;
  double fused = 0, panels = 0;  // by the fastest tile, and by panels (16 bits: by the library)
};

struct TuneReport {
  GemmTuning tuning;
  std::vector<TuneMeasurement> measurements;
};

// Measures every shape with every number of rows, by the three tiles that promise most and by panels, called again and
// again with weights that no cache holds. Takes seconds a shape, and memory of the device for some copies of each
// weight. Throws INVALID_OPTION for options that make no sense, DEVICE_NOT_FOUND, OUT_OF_MEMORY.
namespace cuda {
TuneReport tune(const TuneOptions& options);
}
// Times of the emulator say nothing about GPUs.
namespace emulated {
TuneReport tune(const TuneOptions& options);
}

}  // namespace billfish
