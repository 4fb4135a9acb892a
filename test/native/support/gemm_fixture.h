// The GEMM fixtures, and what else the tests say of a quantized linear in a file.
#pragma once
#include <memory>
#include <string>

#include "checkpoint/readers.h"
#include "support/safetensors_file.h"

namespace fixtures {

using billfish::Format;
using billfish::QuantizedSpec;

struct Scheme {
  Format format;
  int bits;
  int64_t group_size;  // -1: channelwise
  bool symmetric;
  int zero_offset;
  int64_t scale_rows = 1;  // fp8; 0: one scale for all
};

// The spec of the linear whose tensors' names begin with `prefix`, shapes taken from the tensors.
inline QuantizedSpec spec_of(const SafetensorsFiles& file, const std::string& prefix, const Scheme& scheme) {
  QuantizedSpec spec;
  spec.name = prefix;
  spec.format = scheme.format;
  spec.bits = scheme.bits;
  spec.symmetric = scheme.symmetric;
  spec.zero_offset = scheme.zero_offset;
  if (scheme.format == Format::fp8) {
    spec.codes = file.tensor(prefix + "weight");
    spec.scales = file.tensor(prefix + (file.has(prefix + "weight_scale") ? "weight_scale" : "weight_scale_inv"));
    spec.out = spec.codes.shape[0];
    spec.in = spec.codes.shape[1];
    spec.scale_rows = scheme.scale_rows == 0 ? spec.out : scheme.scale_rows;
    if (scheme.scale_rows == 0) spec.scales.shape = {1, 1};
    spec.group_size = scheme.group_size == -1 ? spec.in : std::min(scheme.group_size, spec.in);
    return spec;
  }
  const bool compressed = scheme.format == Format::compressed_tensors;
  spec.codes = file.tensor(prefix + (compressed ? "weight_packed" : "qweight"));
  spec.scales = file.tensor(prefix + (compressed ? "weight_scale" : "scales"));
  const int64_t codes_a_word = 32 / scheme.bits;
  spec.out = compressed ? spec.codes.shape[0] : spec.scales.shape[1];
  spec.in = compressed ? spec.codes.shape[1] * codes_a_word
                       : spec.codes.shape[0] * (scheme.format == Format::gptq ? codes_a_word : 1);
  spec.group_size = scheme.group_size == -1 ? spec.in : scheme.group_size;
  if (file.has(prefix + "qzeros")) spec.zeros = file.tensor(prefix + "qzeros");
  if (file.has(prefix + "g_idx")) spec.group_index = file.tensor(prefix + "g_idx");
  if (file.has(prefix + "bias")) spec.bias = file.tensor(prefix + "bias");
  if (file.has(prefix + "weight_shape")) spec.stored_shape = file.tensor(prefix + "weight_shape");
  return spec;
}

// A case of gemm/index.json: its linear is in `file`, with x and y.
inline Scheme scheme_of_case(const Json& test_case) {
  const std::string& format = test_case.at("format").text;
  return {format == "awq"  ? Format::awq
          : format == "ct" ? Format::compressed_tensors
                           : Format::gptq,
          static_cast<int>(test_case.at("bits").number), static_cast<int64_t>(test_case.at("group_size").number),
          test_case.at("sym").number != 0, format == "gptq" ? 1 : 0};
}
inline SafetensorsFiles file_of_case(const Json& test_case) {
  return SafetensorsFiles({directory() / "gemm" / test_case.at("file").text});
}

// --- What a canonical linear means, spelled out: fp32 weights in the layer's own order of inputs.

inline float scale_at(const billfish::CanonicalShape& shape, const billfish::CanonicalRows& rows, int64_t i) {
  if (shape.scale_type == billfish::DType::f32) {
    float scale;
    std::memcpy(&scale, rows.scales.data() + 4 * i, 4);
    return scale;
  }
  uint16_t half;
  std::memcpy(&half, rows.scales.data() + 2 * i, 2);
  return shape.scale_type == billfish::DType::f16 ? billfish::f16_to_float(half) : billfish::bf16_to_float(half);
}

// [count][in]
inline std::vector<float> dequantize(const billfish::CanonicalShape& shape, const billfish::CanonicalRows& rows) {
  const int64_t words = shape.words_per_row(), groups = shape.groups(), per_word = 32 / shape.bits;
  std::vector<float> weights(rows.count * shape.in);
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int64_t k = 0; k < shape.in; ++k) {
      const int64_t group = row * groups + k / shape.group_size;
      const uint32_t word = rows.codes[row * words + k / per_word];
      const int code = static_cast<int>(word >> (k % per_word * shape.bits) & ((1u << shape.bits) - 1));
      const int zero = shape.has_zero_points ? rows.zeros[group] : 1 << (shape.bits - 1);
      const int64_t input = shape.order.empty() ? k : shape.order[k];
      weights[row * shape.in + input] =
          scale_at(shape, rows, group) * billfish::number_of_code(shape.codes, static_cast<uint32_t>(code), zero);
    }
  }
  return weights;
}

// [out][in], read in slabs of 64 rows as a loader does.
inline std::vector<float> dequantize(const billfish::CanonicalSource& source) {
  const billfish::CanonicalShape& shape = source.shape();
  std::vector<float> weights;
  billfish::CanonicalRows rows;
  for (int64_t first = 0; first < shape.out; first += 64) {
    source.read(first, std::min<int64_t>(64, shape.out - first), rows);
    const std::vector<float> part = dequantize(shape, rows);
    weights.insert(weights.end(), part.begin(), part.end());
  }
  return weights;
}

}  // namespace fixtures
