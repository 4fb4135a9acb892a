#include <cmath>

#include "cpu/quantize_activation.h"

namespace billfish::cpu {

void quantize_segment_scalar(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // The magnitudes are compared as integers, so that a NaN is the largest of all and reaches the output by the scale.
  uint32_t largest_bits = 0;
  for (int64_t k = 0; k < count; ++k) {
    const uint32_t magnitude = float_to_bits(x[k]) & 0x7fffffffu;
    if (magnitude > largest_bits) largest_bits = magnitude;
  }
  const float largest = bits_to_float(largest_bits);
  const bool finite = largest_bits < 0x7f800000u;
  const bool zero = largest < smallest_quantized_magnitude;
  const float inverse = finite && !zero ? largest_code / largest : 0.0f;

  int32_t total = 0;
  const int64_t padded = (count + 7) / 8 * 8;
  for (int64_t k = 0; k < padded; ++k) {
    const float scaled = k < count && finite ? x[k] * inverse : 0.0f;
    const int32_t code = static_cast<int32_t>(std::nearbyintf(scaled));
    codes[k / 8 * 8 + position_in_eight[k % 8]] = static_cast<int16_t>(code);
    total += code;
  }
  *scale = zero ? 0.0f : largest / largest_code;
  *sum = total;
}

}  // namespace billfish::cpu
