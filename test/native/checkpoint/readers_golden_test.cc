// The readers against weights that third-party dequantizers computed: the GEMM fixtures and the models' checksums.
#include <cmath>
#include <set>
#include <string>

#include "checkpoint/readers.h"
#include "engine/error.h"
#include "support/check.h"
#include "support/gemm_fixture.h"
#include "support/safetensors_file.h"

using namespace billfish;
using fixtures::dequantize;
using fixtures::Json;
using fixtures::SafetensorsFiles;
using fixtures::Scheme;
using fixtures::spec_of;

namespace {

struct Sums {
  double sum = 0, absolute = 0;
};

Sums sums_of(const std::vector<float>& weights) {
  Sums sums;
  for (const float weight : weights) {
    sums.sum += weight;
    sums.absolute += std::fabs(weight);
  }
  return sums;
}

void check_gemm_case(const Json& test_case) {
  const std::string& name = test_case.at("name").text;
  const SafetensorsFiles file = fixtures::file_of_case(test_case);
  const QuantizedSpec spec = spec_of(file, "", fixtures::scheme_of_case(test_case));
  const auto source = open_quantized(spec, file.files());
  const bool act_order = test_case.at("act_order").number != 0 && name.find("act-static") == std::string::npos;
  CHECK_MESSAGE(source->shape().order.empty() == !act_order, name);

  const std::vector<float> weights = dequantize(*source);  // [out][in]
  const Sums sums = sums_of(weights);
  const double absolute = test_case.at("w_dequant_abs_sum").number;
  CHECK_MESSAGE(std::fabs(sums.sum - test_case.at("w_dequant_sum").number) <= 1e-9 * absolute, name << " " << sums.sum);
  CHECK_MESSAGE(std::fabs(sums.absolute - absolute) <= 1e-9 * absolute, name << " " << sums.absolute);
  if (file.has("w_dequant")) {
    const auto expected = file.read<float>("w_dequant");  // [in][out]
    int64_t wrong = 0;
    for (int64_t n = 0; n < spec.out; ++n) {
      for (int64_t k = 0; k < spec.in; ++k) wrong += weights[n * spec.in + k] != expected[k * spec.out + n];
    }
    CHECK_MESSAGE(wrong == 0, name << ": " << wrong << " weights differ");
  }

  const auto x = file.read<uint16_t>("x");
  const auto y = file.read<double>("y");
  CanonicalRows all;
  source->read(0, spec.out, all);
  const double tolerance = 1e-12 * test_case.at("max_sum_abs_products").number;
  double worst = 0;
  for (size_t m = 0; m < x.size() / spec.in; ++m) {
    for (int64_t n = 0; n < spec.out; ++n) {
      double sum = all.bias.empty() ? 0 : all.bias[n];
      for (int64_t k = 0; k < spec.in; ++k) sum += double{f16_to_float(x[m * spec.in + k])} * weights[n * spec.in + k];
      worst = std::max(worst, std::fabs(sum - y[m * spec.out + n]));
    }
  }
  CHECK_MESSAGE(worst <= tolerance, name << ": y is off by " << worst << ", allowed are " << tolerance);
}

Json config_of(const std::filesystem::path& model) {
  if (std::filesystem::exists(model / "quantize_config.json")) {
    return fixtures::parse_json(fixtures::read_text(model / "quantize_config.json"));
  }
  const Json config = fixtures::parse_json(fixtures::read_text(model / "config.json"));
  return config.has("quantization_config") ? config.at("quantization_config") : Json();
}

Scheme scheme_of(const Json& config) {
  if (config.has("weight_block_size")) return {Format::fp8, 8, 128, true, 0, 128};
  if (config.has("config_groups")) {
    const Json& weights = config.at("config_groups").at("group_0").at("weights");
    if (weights.has("type") && weights.at("type").text == "float") {
      return {Format::fp8, 8, -1, true, 0, weights.at("strategy").text == "tensor" ? 0 : 1};
    }
    return {Format::compressed_tensors, static_cast<int>(weights.at("num_bits").number),
            weights.has("group_size") ? static_cast<int64_t>(weights.at("group_size").number) : -1,
            weights.at("symmetric").number != 0, 0};
  }
  const int bits = static_cast<int>(config.at("bits").number);
  const auto group_size = static_cast<int64_t>(config.at("group_size").number);
  if (config.has("zero_point")) return {Format::awq, bits, group_size, false, 0};
  const bool v2 = config.has("checkpoint_format") && config.at("checkpoint_format").text == "gptq_v2";
  return {Format::gptq, bits, group_size, config.at("sym").number != 0, v2 ? 0 : 1};
}

// Models whose linears are told apart by rules or by what is stored, which TypeScript decides (test/goldens has them
// all).
bool is_of_one_scheme(const std::string& model) {
  static const std::set<std::string> others = {"qwen2-autoround-awq",      "qwen2-ct-actorder", "qwen2-ct-int8",
                                               "qwen2-ct-w4a16-asym",      "qwen2-ct-mixed",    "qwen2-gptq-lmhead",
                                               "qwen2-gptq-sym-odd-zeros", "qwen3-ct-nvfp4",    "qwen3-autoround-gptq",
                                               "qwen3-autoround-v2",       "qwen3-gptq-dynamic"};
  return others.count(model) == 0;
}

}  // namespace

TEST(readers_reproduce_the_gemm_fixtures) {
  const Json index = fixtures::parse_json(fixtures::read_text(fixtures::directory() / "gemm/index.json"));
  CHECK(index.at("cases").items.size() == 29);
  for (const Json& test_case : index.at("cases").items) check_gemm_case(test_case);
}

TEST(readers_reproduce_the_checksums_of_the_models) {
  int layers = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fixtures::directory() / "models")) {
    const Json golden = fixtures::parse_json(fixtures::read_text(entry.path() / "golden.json"));
    if (!golden.has("dequant_checksum") || !is_of_one_scheme(entry.path().filename().string())) continue;
    std::vector<std::filesystem::path> shards;
    for (const auto& file : std::filesystem::directory_iterator(entry.path())) {
      const std::string name = file.path().filename().string();
      if (name.rfind("model", 0) == 0 && file.path().extension() == ".safetensors") shards.push_back(file.path());
    }
    const SafetensorsFiles files(shards);
    const Scheme scheme = scheme_of(config_of(entry.path()));
    for (const auto& [module, checksum] : golden.at("dequant_checksum").members) {
      const QuantizedSpec spec = spec_of(files, module + ".", scheme);
      const Sums sums = sums_of(dequantize(*open_quantized(spec, files.files())));
      const double sum = checksum.items[0].number, absolute = checksum.items[1].number;
      const std::string where = entry.path().filename().string() + " " + module;
      CHECK_MESSAGE(std::fabs(sums.sum - sum) <= 1e-8 * absolute, where << ": sum " << sums.sum << ", not " << sum);
      CHECK_MESSAGE(std::fabs(sums.absolute - absolute) <= 1e-8 * absolute, where << ": " << sums.absolute);
      ++layers;
    }
  }
  CHECK_MESSAGE(layers == 785, layers << " layers checked");
}
