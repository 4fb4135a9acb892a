// Measures the GEMM on a device, for a tuning (platform/gemm_tuning.h). Plain values, declared for both targets, so
// that callers need to know neither.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "platform/gemm_tuning.h"

namespace billfish {

// A linear to measure.
struct TuneShape {
  int bits = 4;  // 4, 8 or 16
  int64_t out = 0, in = 0;
  int64_t group_size = 128;  // of 4 and 8 bits; -1: one group a row
  bool zero_points = false;
};

// A tile of tiles.h, with the cost model's number of blocks.
struct TileTime {
  int tokens = 0, outputs = 0, inputs = 0;
  bool bulk = false;
  uint32_t blocks = 0;
  double microseconds = 0;
};

// What was measured of a shape with a number of rows, in microseconds; 0: not measured.
struct TuneMeasurement {
  TuneShape shape;
  int64_t rows = 0;
  double fused = 0, panels = 0;      // by the fastest tile, and by panels (16 bits: by the library)
  std::vector<TileTime> tiles = {};  // the fastest first
};

struct TuneOptions {
  int device = 0;                 // index
  bool bfloat16 = false;          // else half
  std::vector<int64_t> rows;      // ascending: what each shape is measured with
  std::vector<TuneShape> shapes;  // at least one
  int runs = 10;                  // the median counts
  int launches = 16;              // per run, back to back
  bool every_tile = false;        // else the three most promising
  // Called with every measurement (one per shape and number of rows), and before every run. An exception ends the
  // tuning.
  std::function<void(const TuneMeasurement&)> on_measurement = nullptr;
  std::function<void()> before_run = nullptr;
};

struct TuneReport {
  GemmTuning tuning;
  std::vector<TuneMeasurement> measurements;
};

// Measures every shape with every number of rows, by tiles and by panels, cycling through copies of the weight that
// exceed every cache. Takes seconds per shape, and device memory for a few copies of each weight. Throws INVALID_OPTION
// for invalid options, DEVICE_NOT_FOUND, OUT_OF_MEMORY.
namespace cuda {
TuneReport tune(const TuneOptions& options);
}
// Times of the emulator say nothing about GPUs.
namespace emulated {
TuneReport tune(const TuneOptions& options);
}

}  // namespace billfish
