// FP8: codes that are floats themselves (engine/code_type.h), as quant_method fp8 and compressed-tensors'
// float-quantized store them:
//
//   weight            F8_E4M3 [out][in]
//   weight_scale_inv          [ceil(out / R)][ceil(in / C)]   in compressed-tensors weight_scale
//
// A scale multiplies a block of R = scale_rows outputs by C = group_size inputs; blocks at the edges are smaller. With
// R = 1 and C = in scales are those of channels, with R = out and C = in there is one. The reader repeats a block's
// scale in all of its rows: these are then an ordinary grouped layer, which may be cut between any two of them.
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

class Fp8Source final : public QuantizedSource {
 public:
  Fp8Source(const QuantizedSpec& spec, const MappedFiles& files)
      : QuantizedSource(spec, files, {spec.out, spec.in},
                        {divide_up(spec.out, spec.scale_rows), divide_up(spec.in, spec.group_size)}, {},
                        DType::f8_e4m3) {}

 private:
  bool scales_by_group() const override { return false; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const int64_t in = shape_.in, words = shape_.words_per_row();
    const uint8_t* stored = tensor_bytes(spec_.codes, files_, first * in, count * in);
    for (int64_t row = 0; row < count; ++row) {
      const uint8_t* line = stored + row * in;
      bool has_nan = false;
      for (int64_t k = 0; k < in; ++k) has_nan |= is_e4m3_nan(line[k]);
      if (has_nan) refuse_nan(first + row, line);
      codes[(row + 1) * words - 1] = 0;  // it may be filled in part
      std::memcpy(codes + row * words, line, in);
    }
  }
  void read_zeros(int64_t, int64_t, const uint8_t*, uint8_t*) const override {}

  [[noreturn]] void refuse_nan(int64_t row, const uint8_t* line) const {
    int64_t k = 0;
    while (!is_e4m3_nan(line[k])) ++k;
    refuse(tensor_text(spec_.codes, files_) + " holds NaN for output " + std::to_string(row) + ", input " +
           std::to_string(k) + "; the layer's results would be meaningless, take another quantization of this model");
  }
};

}  // namespace

std::unique_ptr<CanonicalSource> open_fp8(const QuantizedSpec& spec, const MappedFiles& files) {
  if (spec.bits != 8 || !spec.symmetric || spec.group_index) {
    refuse("Layer '" + spec.name + "' is FP8 with " + std::to_string(spec.bits) + " bits" +
           (spec.symmetric ? "" : ", zero points") + (spec.group_index ? ", an order of its inputs" : "") +
           "; its codes have 8 bits, no zero points and their own order");
  }
  return std::make_unique<Fp8Source>(spec, files);
}

}  // namespace billfish
