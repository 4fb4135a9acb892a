// What all format readers share: the checked spec, the order of the inputs, scales, zeros and bias. A format adds where
// its codes are.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "checkpoint/readers.h"

namespace billfish {

class QuantizedSource : public CanonicalSource {
 public:
  const CanonicalShape& shape() const override { return shape_; }
  void read(int64_t first, int64_t count, CanonicalRows& rows) const override;
  uint64_t source_bytes() const override;

 protected:
  // Checks everything. The shapes of codes, scales and zeros depend on the format and are passed as arguments.
  QuantizedSource(const QuantizedSpec& spec, const MappedFiles& files, const std::vector<int64_t>& codes_shape,
                  const std::vector<int64_t>& scales_shape, const std::vector<int64_t>& zeros_shape);

  // [count][words_per_row] canonical codes of rows [first, first + count).
  virtual void read_codes(int64_t first, int64_t count, uint32_t* codes) const = 0;
  // The stored zero points of a row, for all groups: zeros[row][group]. `words`: all words of the tensor.
  virtual void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const = 0;
  // True if scales are stored [groups][out], false for [out][groups].
  virtual bool scales_by_group() const = 0;

  const uint8_t* code_bytes() const;

  QuantizedSpec spec_;
  MappedFiles files_;
  CanonicalShape shape_;

 private:
  void read_scales(int64_t first, int64_t count, CanonicalRows& rows) const;
  [[noreturn]] void refuse_scale(int64_t row, int64_t group, float value) const;

  std::vector<float> bias_;
};

std::unique_ptr<CanonicalSource> open_gptq(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_awq(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_compressed_tensors(const QuantizedSpec& spec, const MappedFiles& files);

}  // namespace billfish
