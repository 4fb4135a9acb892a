// FP4: codes that are 4-bit floats (engine/code_type.h), two a byte, with scales of a byte each, as compressed-tensors'
// nvfp4-pack-quantized and mxfp4-pack-quantized and ModelOpt store them:
//
//   weight_packed         U8 [out][in / 2]      in ModelOpt weight; bits 0-3: input 2b, bits 4-7: input 2b + 1
//   weight_scale          NVFP4: F8_E4M3 [out][in / 16]      MXFP4: U8 or F8_E8M0 [out][in / 32]
//   weight_global_scale   NVFP4 alone: one number, which divides the scales
//   weight_scale_2        the same in ModelOpt, where it multiplies them
//
// Linears that one launch multiplies may have global scales of their own, so the reader repeats them for every output.
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

class Fp4Source final : public QuantizedSource {
 public:
  Fp4Source(const QuantizedSpec& spec, const MappedFiles& files)
      : QuantizedSource(spec, files, {spec.out, spec.in / 2}, {spec.out, spec.in / spec.group_size}, {}, DType::u8) {}

 private:
  bool scales_by_group() const override { return false; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    // The bytes of a row are its canonical words.
    const int64_t bytes = shape_.in / 2, words = shape_.words_per_row();
    const uint8_t* stored = tensor_bytes(spec_.codes, files_, first * bytes, count * bytes);
    for (int64_t row = 0; row < count; ++row) std::memcpy(codes + row * words, stored + row * bytes, bytes);
  }
  void read_zeros(int64_t, int64_t, const uint8_t*, uint8_t*) const override {}
};

}  // namespace

std::unique_ptr<CanonicalSource> open_fp4(const QuantizedSpec& spec, const MappedFiles& files) {
  if (spec.bits != 4 || !spec.symmetric || spec.group_index) {
    refuse("Layer '" + spec.name + "' is FP4 with " + std::to_string(spec.bits) + " bits" +
           (spec.symmetric ? "" : ", zero points") + (spec.group_index ? ", an order of its inputs" : "") +
           "; its codes have 4 bits, no zero points and their own order");
  }
  if (spec.group_size % 8 != 0 || spec.in % spec.group_size != 0) {
    refuse("Layer '" + spec.name + "' is FP4 with " + std::to_string(spec.in) + " inputs in groups of " +
           std::to_string(spec.group_size) + "; whole groups of 16 or 32 are stored");
  }
  return std::make_unique<Fp4Source>(spec, files);
}

}  // namespace billfish
