// AWQ in AutoAWQ's GEMV layout, 4 bits, the first code of a word in its lowest bits:
//
//   qweight [out][in/8]       the canonical words already
//   qzeros  [out][words]      word of groups 8c .. 8c+7; there may be more words than groups need
//   scales  [out][8 * words]
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

class AwqGemvSource final : public QuantizedSource {
 public:
  AwqGemvSource(const QuantizedSpec& spec, const MappedFiles& files, int64_t zero_words)
      : QuantizedSource(spec, files, {spec.out, spec.in / 8}, {spec.out, 8 * zero_words}, {spec.out, zero_words}),
        zero_words_(zero_words) {}

 private:
  bool scales_by_group() const override { return false; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const int64_t row_bytes = shape_.words_per_row() * 4;
    std::memcpy(codes, code_bytes() + first * row_bytes, count * row_bytes);
  }

  void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const override {
    const int64_t groups = shape_.groups();
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t* line = words + (first + i) * zero_words_ * 4;
      for (int64_t group = 0; group < groups; ++group) {
        zeros[i * groups + group] =
            static_cast<uint8_t>(load<uint32_t>(line + group / 8 * 4) >> (4 * (group % 8)) & 0xf);
      }
    }
  }

  const int64_t zero_words_;
};

}  // namespace

std::unique_ptr<CanonicalSource> open_awq_gemv(const QuantizedSpec& spec, const MappedFiles& files) {
  const std::string layer = "Layer '" + spec.name + "' has ";
  if (spec.bits != 4) refuse(layer + std::to_string(spec.bits) + " bits; AWQ has 4");
  if (spec.in % 8 != 0) refuse(layer + std::to_string(spec.in) + " inputs; AWQ GEMV needs a multiple of 8");
  if (spec.group_index) refuse(layer + "a group index, which AWQ does not know");
  const int64_t groups = (spec.in + spec.group_size - 1) / spec.group_size;
  const auto& stored = spec.scales.shape;
  if (stored.size() != 2 || stored[1] % 8 != 0 || stored[1] < groups || stored[1] > int64_t{8} * spec.in) {
    refuse(layer + std::to_string(groups) + " groups, but scales of shape " + shape_text(stored));
  }
  return std::make_unique<AwqGemvSource>(spec, files, stored[1] / 8);
}

}  // namespace billfish
