// NVFP4 and MXFP4 layers, whole and cut, against their plain numbers; and what the reader refuses.
#include <cmath>

#include "checkpoint/readers.h"
#include "checkpoint/tensor_check.h"
#include "engine/error.h"
#include "support/check.h"
#include "support/written_layer.h"

using namespace fixtures;

namespace {

// Random codes and scales, stored; `global` 0: there is no global scale.
struct Fp4Layer {
  Fp4Layer(int64_t rows, int64_t inputs, int64_t group, DType type, float global = 0, bool divides = false)
      : out(rows),
        in(inputs),
        group_size(group),
        scale_type(type),
        output_scale(global == 0 ? 1
                     : divides   ? 1 / global
                                 : global) {
    std::mt19937 random(static_cast<unsigned>(out * 31 + in));
    for (int64_t i = 0; i < out * in / 2; ++i) bytes.push_back(static_cast<uint8_t>(random()));
    for (int64_t i = 0; i < out * in / group; ++i) scales.push_back(static_cast<uint8_t>(0x30 + random() % 0x20));
    spec.name = "layer";
    spec.format = Format::fp4;
    spec.out = out;
    spec.in = in;
    spec.group_size = group;
    spec.codes = file.write("packed", DType::u8, {out, in / 2}, bytes);
    spec.scales = file.write("scale", type, {out, in / group}, scales);
    if (global != 0) spec.global_scale = file.write("global", DType::f32, {1}, std::vector<float>{global});
    spec.global_scale_divides = divides;
  }

  double weight(int64_t n, int64_t k) const {
    const uint32_t code = bytes[static_cast<size_t>((n * in + k) / 2)] >> (k % 2 * 4) & 0xf;
    const uint8_t stored = scales[static_cast<size_t>((n * in + k) / group_size)];
    const double scale = scale_type == DType::f8_e4m3 ? e4m3_to_float(stored) : std::ldexp(1.0, stored - 127);
    constexpr double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return (code < 8 ? 1 : -1) * magnitudes[code % 8] * scale * output_scale;
  }

  int64_t out, in, group_size;
  DType scale_type;
  float output_scale;
  std::vector<uint8_t> bytes, scales;
  TemporaryFile file;
  QuantizedSpec spec;
};

double fp4_weight_of(const CanonicalRows& rows, const CanonicalShape& shape, int64_t i, int64_t k) {
  const uint32_t code = rows.codes[static_cast<size_t>(i * shape.words_per_row() + k / 8)] >> (k % 8 * 4) & 0xf;
  const double scale = number_at(shape.scale_type, rows.scales.data(), i * shape.groups() + k / shape.group_size);
  const double output_scale = shape.has_output_scales ? rows.output_scales[static_cast<size_t>(i)] : 1.0f;
  return number_of_code(shape.codes, code, 0) * scale * output_scale;
}

}  // namespace

TEST(readers_read_fp4) {
  const Fp4Layer layers[] = {{70, 144, 16, DType::f8_e4m3, 96.5f, true},
                             {131, 160, 16, DType::f8_e4m3, 0.0035f},
                             {66, 224, 32, DType::u8},
                             {64, 32, 32, DType::f8_e8m0}};
  for (const Fp4Layer& layer : layers) {
    const auto source = open_quantized(layer.spec, layer.file.map());
    CHECK(source->shape().has_output_scales == layer.spec.global_scale.has_value());
    for (const int64_t first : {int64_t{0}, layer.out / 3}) {
      CanonicalRows rows;
      source->read(first, layer.out - first, rows);
      double worst = 0;
      for (int64_t i = 0; i < rows.count; ++i) {
        for (int64_t k = 0; k < layer.in; ++k) {
          const double wanted = layer.weight(first + i, k);
          worst = std::max(worst,
                           std::abs(fp4_weight_of(rows, source->shape(), i, k) - wanted) / (std::abs(wanted) + 1e-30));
        }
      }
      CHECK_MESSAGE(worst < 1e-7, worst);
    }
  }
}

TEST(parts_of_fp4_layers_are_cut_and_padded_by_groups) {
  const Fp4Layer layer(96, 208, 16, DType::f8_e4m3, 96.5f, true);
  QuantizedSpec spec = layer.spec;
  spec.out = 48;
  spec.in = 64;
  spec.part = Part{96, 208, 16, {{40, 40}, {ChannelRun::zeros, 8}}, {{160, 48}, {ChannelRun::zeros, 16}}, false, {}, 0};
  const auto source = open_quantized(spec, layer.file.map());
  CanonicalRows rows;
  source->read(0, spec.out, rows);
  for (int64_t n = 0; n < spec.out; ++n) {
    for (int64_t k = 0; k < spec.in; ++k) {
      const double wanted = n < 40 && k < 48 ? layer.weight(40 + n, 160 + k) : 0;
      CHECK(std::abs(fp4_weight_of(rows, source->shape(), n, k) - wanted) <= 1e-7 * std::abs(wanted));
    }
  }
}

TEST(readers_refuse_fp4_specs_that_contradict_their_tensors) {
  const Fp4Layer layer(70, 160, 16, DType::f8_e4m3, 2.0f);
  const MappedFiles files = layer.file.map();
  CHECK(message_of(layer.spec, files) == "no error");
  const auto refused = [&](const char* part, auto spoil) {
    QuantizedSpec spec = layer.spec;
    spoil(spec);
    const std::string message = message_of(spec, files);
    CHECK_MESSAGE(message.rfind("INVALID_CHECKPOINT: ", 0) == 0, message);
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  };
  refused("FP4 with 8 bits", [](auto& spec) { spec.bits = 8; });
  refused("zero points", [](auto& spec) { spec.symmetric = false, spec.zeros = spec.scales; });
  refused("an order of its inputs", [](auto& spec) { spec.group_index = spec.scales; });
  refused("170 inputs in groups of 16", [](auto& spec) { spec.in = 170; });
  refused("in groups of 20", [](auto& spec) { spec.group_size = 20; });
  refused("'scale'", [](auto& spec) { spec.group_size = 32; });
  refused("F8_E4M3", [](auto& spec) { spec.scales.dtype = DType::i8; });
  refused("'packed'", [](auto& spec) { spec.codes.shape = {70, 160}; });
  refused("U8 is needed", [](auto& spec) { spec.codes.dtype = DType::i8; });
  refused("'global'", [](auto& spec) { spec.global_scale->shape = {2}; });
  refused("'global'", [](auto& spec) { spec.global_scale->dtype = DType::i32; });
}

TEST(readers_refuse_fp4_scales_that_are_no_numbers) {
  const auto refused = [](Fp4Layer& layer, const char* part) {
    const std::string message = message_of(layer.spec, layer.file.map());
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  };
  for (const auto& [global, divides, part] : {std::tuple{0.0f, true, "is 0, which divides"},
                                              {INFINITY, false, "inf"},
                                              {NAN, true, "nan"},
                                              {1e-45f, true, "divides"}}) {
    Fp4Layer layer(64, 64, 16, DType::f8_e4m3, 1.0f, divides);
    layer.spec.global_scale = layer.file.write("global", DType::f32, {}, std::vector<float>{global});
    refused(layer, part);
  }
  Fp4Layer nan(64, 64, 16, DType::f8_e4m3, 1.0f);
  nan.scales[70] = 0x7f;
  nan.spec.scales = nan.file.write("scale", DType::f8_e4m3, {64, 4}, nan.scales);
  refused(nan, "NaN for output 17, group 2");
  Fp4Layer exponents(64, 64, 32, DType::u8);
  exponents.scales[70] = 0xff;
  exponents.spec.scales = exponents.file.write("scale", DType::u8, {64, 2}, exponents.scales);
  refused(exponents, "NaN for output 35, group 0");
}
