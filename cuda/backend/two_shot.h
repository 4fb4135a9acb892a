// When ranks use a two-shot all-reduce (layer/rank_sum.h) instead of a one-shot one.
#pragma once
#include <cstdint>

namespace billfish::BILLFISH_TARGET {

class TwoShot {
 public:
  // From BILLFISH_CUDA_TWO_SHOT: the bytes that the second shot must save each rank; 0: always; or 'never'. Throws
  // INVALID_OPTION.
  TwoShot();

  // The same for every rank of a sum of rows * columns, whose results take `out_bytes` each.
  bool pays(int ranks, int64_t rows, int64_t columns, int64_t out_bytes) const;

 private:
  int64_t min_saved_;
};

}  // namespace billfish::BILLFISH_TARGET
