#include "backend/two_shot.h"

#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>

#include "engine/error.h"
#include "layer/rank_sum.h"

namespace billfish::BILLFISH_TARGET {

// An estimate for NVLink, not measured. The second shot costs a barrier of the ranks' threads, a cross-device event and
// a launch: about 10 us together, in which a link of 300 GB/s (an A100's; an H100's has 450) moves 3 MB. A model of
// 8192 channels with 16-bit results saves that from these row counts on:
//
//   ranks     2    3    4    8
//   rows    384   97   52   17      saved: (ranks - 1) * columns * (4 - (4 + 2) / ranks) bytes a row
//
// A PCIe link of 25 GB/s breaks even at a twelfth of them.
static constexpr int64_t default_min_saved = int64_t{3} << 20;
static constexpr int64_t never = std::numeric_limits<int64_t>::max();

static int64_t min_saved_from_environment() {
  const char* given = std::getenv("BILLFISH_CUDA_TWO_SHOT");
  const std::string text = given == nullptr ? "" : given;
  if (text.empty()) return default_min_saved;
  if (text == "never") return never;
  int64_t bytes = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (error != std::errc() || stop != text.data() + text.size() || bytes < 0) {
    throw Error("INVALID_OPTION", "BILLFISH_CUDA_TWO_SHOT is '" + text +
                                      "'; it must be the bytes that the second shot saves at least, or 'never'.");
  }
  return bytes;
}

TwoShot::TwoShot() : min_saved_(min_saved_from_environment()) {}

bool TwoShot::pays(int ranks, int64_t rows, int64_t columns, int64_t out_bytes) const {
  const int64_t in_one = (ranks - 1) * columns * 4;
  const int64_t in_two = (ranks - 1) * share_columns(columns, ranks) * (4 + out_bytes);
  return min_saved_ != never && (min_saved_ == 0 || rows * (in_one - in_two) >= min_saved_);
}

}  // namespace billfish::BILLFISH_TARGET
