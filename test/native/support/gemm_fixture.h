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
};

// The spec of the linear whose tensors' names begin with `prefix`, shapes taken from the tensors.
inline QuantizedSpec spec_of(const SafetensorsFiles& file, const std::string& prefix, const Scheme& scheme) {
  QuantizedSpec spec;
  spec.name = prefix;
  spec.format = scheme.format;
  spec.bits = scheme.bits;
  spec.symmetric = scheme.symmetric;
  spec.zero_offset = scheme.zero_offset;
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

}  // namespace fixtures
