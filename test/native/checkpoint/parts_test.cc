// Parts of layers: what tensor parallelism and padding make of a stored layer, against its plain numbers.
#include <cstring>

#include "checkpoint/readers.h"
#include "checkpoint/tensor_check.h"
#include "engine/error.h"
#include "support/check.h"
#include "support/written_layer.h"

using namespace fixtures;

namespace {

constexpr int64_t zeros = ChannelRun::zeros;

// The stored channel of every channel of a part, or -1 for zeros.
std::vector<int64_t> expanded(const std::vector<ChannelRun>& runs, int64_t stored) {
  std::vector<int64_t> channels;
  for (const ChannelRun& run : runs.empty() ? std::vector<ChannelRun>{{0, stored}} : runs) {
    for (int64_t i = 0; i < run.count; ++i) channels.push_back(run.start == zeros ? -1 : run.start + i);
  }
  return channels;
}

// scale * (code - zero) of the layer, by canonical input.
double stored_weight(const Layer& layer, int64_t n, int64_t canonical_k) {
  const int64_t k = layer.expected_order[canonical_k];
  const int64_t group = canonical_k / layer.group_size;
  const double zero = layer.symmetric ? 1 << (layer.bits - 1) : layer.zeros[n * layer.groups() + group];
  const uint16_t scale = layer.scales[n * layer.groups() + group];
  const uint32_t code = layer.codes[n * layer.in + k];
  if (layer.format == Format::fp8) return f16_to_float(scale) * double{e4m3_to_float(static_cast<uint8_t>(code))};
  return f16_to_float(scale) * (code - zero);
}

double weight_of(const CanonicalRows& rows, const CanonicalShape& shape, int64_t i, int64_t k) {
  const int64_t per_word = 32 / shape.bits, entry = i * shape.groups() + k / shape.group_size;
  const uint32_t code =
      rows.codes[i * shape.words_per_row() + k / per_word] >> (k % per_word * shape.bits) & ((1u << shape.bits) - 1);
  const double zero = shape.has_zero_points ? rows.zeros[entry] : 1 << (shape.bits - 1);
  uint16_t scale;
  std::memcpy(&scale, &rows.scales[entry * 2], 2);
  if (shape.codes == CodeType::e4m3) return f16_to_float(scale) * double{e4m3_to_float(static_cast<uint8_t>(code))};
  return f16_to_float(scale) * (code - zero);
}

Part part_of(const Layer& layer, std::vector<ChannelRun> outputs, std::vector<ChannelRun> inputs) {
  Part part;
  part.stored_out = layer.out;
  part.stored_in = layer.in;
  part.stored_group_size = layer.group_size;
  part.outputs = std::move(outputs);
  part.inputs = std::move(inputs);
  return part;
}

// group_size: of the part; 0: the layer's.
void check_part(const Layer& layer, std::vector<ChannelRun> outputs, std::vector<ChannelRun> inputs,
                int64_t group_size = 0) {
  TemporaryFile file;
  QuantizedSpec spec = write(layer, file);
  const std::vector<int64_t> rows_from = expanded(outputs, layer.out), columns_from = expanded(inputs, layer.in);
  spec.part = part_of(layer, outputs, inputs);
  spec.part->inputs_in_group_order = layer.act_order;
  spec.out = static_cast<int64_t>(rows_from.size());
  spec.in = static_cast<int64_t>(columns_from.size());
  spec.group_size = group_size > 0 ? group_size : layer.group_size == layer.in ? spec.in : layer.group_size;
  const auto source = open_quantized(spec, file.map());
  const CanonicalShape& shape = source->shape();
  CHECK(shape.out == spec.out);
  CHECK(shape.in == spec.in);
  const bool keeps_order = layer.act_order && inputs.empty();
  CHECK(shape.order == (keeps_order ? layer.expected_order : std::vector<int32_t>()));
  CHECK(shape.has_group_index == keeps_order);

  CanonicalRows rows;
  for (int64_t first = 0, count = 1; first < spec.out; first += count, count = count * 3 % 50 + 1) {
    count = std::min(count, spec.out - first);
    source->read(first, count, rows);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = rows_from[first + i];
      CHECK(rows.bias[i] == (row < 0 ? 0.0f : static_cast<float>(row) + 0.5f));
      for (int64_t k = 0; k < spec.in; ++k) {
        const int64_t column = columns_from[k];
        const double expected = row < 0 || column < 0 ? 0.0 : stored_weight(layer, row, column);
        const double got = weight_of(rows, shape, i, k);
        CHECK_MESSAGE(got == expected, "output " << first + i << " input " << k << ": " << got << " not " << expected);
      }
    }
  }
}

std::string message_of_part(const Layer& layer, std::vector<ChannelRun> outputs, std::vector<ChannelRun> inputs,
                            int64_t out, int64_t in) {
  TemporaryFile file;
  QuantizedSpec spec = write(layer, file);
  spec.part = part_of(layer, std::move(outputs), std::move(inputs));
  spec.out = out;
  spec.in = in;
  return message_of(spec, file.map());
}

}  // namespace

TEST(parts_take_outputs_of_every_format) {
  for (const Format format : {Format::gptq, Format::awq, Format::compressed_tensors}) {
    const Layer layer = make(format, 4, 136, 256, 64, false, false);
    check_part(layer, {{64, 72}}, {});
    check_part(layer, {{0, 8}, {zeros, 8}, {128, 8}, {3, 5}}, {});
    check_part(layer, {{0, 136}, {zeros, 56}}, {});
  }
  check_part(make(Format::compressed_tensors, 8, 70, 128, 128, true, false), {{35, 35}}, {});
}

TEST(parts_take_inputs_by_whole_groups) {
  for (const bool symmetric : {false, true}) {
    for (const bool act_order : {false, true}) {
      const Layer layer = make(Format::gptq, 4, 72, 384, 64, symmetric, act_order);
      check_part(layer, {}, {{64, 192}});
      check_part(layer, {}, {{0, 384}});  // a rank that has them all, in the order of groups
      check_part(layer, {}, {{0, 384}, {zeros, 128}});
      check_part(layer, {{8, 40}, {zeros, 8}}, {{320, 64}, {zeros, 64}, {0, 64}});
    }
  }
  check_part(make(Format::awq, 4, 72, 96, 32, false, false), {}, {{32, 64}, {zeros, 32}});
  check_part(make(Format::compressed_tensors, 8, 67, 192, 64, false, false), {}, {{128, 64}, {zeros, 64}});
}

TEST(parts_have_zeros_within_groups) {
  // Each of the first channels followed by one zero, then the others: groups of the part of 64 have 32 stored ones.
  const Layer layer = make(Format::gptq, 4, 16, 128, 64, false, false);
  std::vector<ChannelRun> inputs;
  for (int64_t k = 0; k < 64; ++k) {
    inputs.push_back({k, 1});
    inputs.push_back({zeros, 1});
  }
  inputs.push_back({64, 64});
  check_part(layer, {}, inputs);
}

TEST(parts_of_channelwise_layers_are_cut_anywhere) {
  check_part(make(Format::compressed_tensors, 8, 67, 131, 131, true, false), {{1, 66}}, {{7, 60}, {zeros, 5}});
  check_part(make(Format::awq, 4, 72, 100, 100, false, false), {}, {{50, 50}});
  check_part(make(Format::gptq, 4, 72, 104, 104, false, false), {}, {{0, 104}, {zeros, 24}});
}

// Ranks' shares that begin and end within blocks of scales: groups of a part of a block's inputs.
TEST(parts_of_fp8_layers_are_cut_within_blocks) {
  const Layer blocks = make_fp8(200, 320, 128, 128);
  check_part(blocks, {}, {{0, 160}});
  check_part(blocks, {}, {{160, 160}}, 32);
  check_part(blocks, {}, {{224, 96}, {zeros, 16}}, 32);
  check_part(blocks, {{100, 70}, {zeros, 58}}, {{64, 256}}, 64);
  check_part(blocks, {{120, 16}}, {});
  check_part(make_fp8(67, 131, 1, 131), {{1, 66}}, {{7, 60}, {zeros, 5}});
  check_part(make_fp8(67, 131, 67, 131), {{60, 7}}, {{100, 31}});
}

TEST(parts_refuse_other_groups_without_a_cut) {
  TemporaryFile file;
  const Layer layer = make_fp8(200, 320, 128, 128);
  QuantizedSpec spec = write(layer, file);
  spec.part = part_of(layer, {}, {});
  spec.group_size = 32;
  const std::string message = message_of(spec, file.map());
  CHECK_MESSAGE(message.find("in groups of 32 instead of 128") != std::string::npos, message);
}

TEST(parts_keep_the_whole_order_where_all_inputs_stay) {
  check_part(make(Format::gptq, 4, 130, 256, 64, false, true), {{65, 65}}, {});
}

TEST(parts_follow_the_order_of_the_layer_that_reads_them) {
  const Layer reader = make(Format::gptq, 4, 64, 192, 32, true, true);
  const Layer layer = make(Format::gptq, 4, 192, 128, 64, false, false);
  TemporaryFile file;
  QuantizedSpec spec = write(layer, file);
  spec.part = part_of(layer, {{96, 64}, {zeros, 32}}, {});
  spec.part->follows = file.write("down.g_idx", DType::i32, {192}, reader.group_of);
  spec.part->followed_group_size = 32;
  spec.out = 96;
  const auto source = open_quantized(spec, file.map());
  CanonicalRows rows;
  source->read(0, 96, rows);
  for (int64_t n = 0; n < 96; ++n) {
    for (int64_t k = 0; k < 128; ++k) {
      const double expected = n < 64 ? stored_weight(layer, reader.expected_order[96 + n], k) : 0.0;
      CHECK(weight_of(rows, source->shape(), n, k) == expected);
    }
  }
}

TEST(parts_of_matrices_hold_their_rows_and_columns) {
  TemporaryFile file;
  std::vector<float> values(7 * 5), bias(7);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i + 100);
  MatrixSpec spec{
      "m", 6, 4, file.write("weight", DType::f32, {7, 5}, values), file.write("bias", DType::f32, {7}, bias), {}, {}};
  spec.part = Part{7, 5, 0, {{2, 3}, {zeros, 2}, {0, 1}}, {{4, 1}, {zeros, 1}, {0, 2}}, false, {}, 0};
  const MatrixSource source(spec, file.map());
  CHECK(source.bias() == (std::vector<float>{102, 103, 104, 0, 0, 100}));
  const std::vector<int64_t> rows_from{2, 3, 4, -1, -1, 0}, columns_from{4, -1, 0, 1};
  for (int64_t first = 0; first < 6; ++first) {
    std::vector<float> rows((6 - first) * 4, NAN);
    source.read(first, 6 - first, rows.data());
    for (int64_t i = first; i < 6; ++i) {
      for (int64_t k = 0; k < 4; ++k) {
        const bool zero = rows_from[i] < 0 || columns_from[k] < 0;
        CHECK(rows[(i - first) * 4 + k] == (zero ? 0.0f : values[rows_from[i] * 5 + columns_from[k]]));
      }
    }
  }
}

TEST(matrices_stored_input_by_input_are_read_as_rows) {
  constexpr int64_t columns = 9, column = 2, out = 6, in = 5;
  for (const DType type : {DType::bf16, DType::f32}) {
    TemporaryFile file;
    std::vector<float> values(in * columns);
    std::vector<uint16_t> halves(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i + 1);
      halves[i] = float_to_bf16(values[i]);
    }
    const TensorRef weight = type == DType::f32 ? file.write("weight", type, {in, columns}, values)
                                                : file.write("weight", type, {in, columns}, halves);
    const auto check = [&](const MatrixSpec& spec, const std::vector<int64_t>& rows_from,
                           const std::vector<int64_t>& columns_from) {
      const MatrixSource source(spec, file.map());
      const int64_t size = static_cast<int64_t>(byte_size(type));
      for (int64_t first = 0; first < spec.out; ++first) {
        std::vector<uint8_t> rows(static_cast<size_t>((spec.out - first) * spec.in * size), 0xff);
        source.read(first, spec.out - first, rows.data());
        for (int64_t i = first; i < spec.out; ++i) {
          for (int64_t k = 0; k < spec.in; ++k) {
            const bool zero = rows_from[i] < 0 || columns_from[k] < 0;
            CHECK(number_at(type, rows.data(), (i - first) * spec.in + k) ==
                  (zero ? 0.0f : values[columns_from[k] * columns + column + rows_from[i]]));
          }
        }
      }
    };
    MatrixSpec spec{"m", out, in, weight, {}, {}, column};
    check(spec, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4});
    spec.out = 4;
    spec.in = 4;
    spec.part = Part{out, in, 0, {{3, 2}, {zeros, 1}, {0, 1}}, {{4, 1}, {zeros, 1}, {0, 2}}, false, {}, 0};
    check(spec, {3, 4, -1, 0}, {4, -1, 0, 1});
    spec.column = columns - out + 1;
    std::string message = "no error";
    try {
      const MatrixSource source(spec, file.map());
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK_MESSAGE(message.find("takes 6 columns from 4 on; the tensor has 9") != std::string::npos, message);
  }
}

TEST(parts_that_are_impossible_are_refused) {
  const Layer layer = make(Format::gptq, 4, 64, 256, 64, false, false);
  const auto says = [](const std::string& message, const char* text) {
    CHECK_MESSAGE(message.find(text) != std::string::npos, message);
  };
  says(message_of_part(layer, {{60, 8}}, {}, 8, 256), "takes 8 outputs from 60 on; the layer has 64");
  says(message_of_part(layer, {{0, 8}}, {}, 9, 256), "is to have 9 outputs, but its runs have 8");
  says(message_of_part(layer, {{0, 8}, {0, 8}}, {}, 9, 256), "is to have 9 outputs, but its runs have 16 and more");
  says(message_of_part(layer, {}, {{32, 64}}, 64, 64),
       "groups 0 and 1 in one group of 64; cut and pad by whole groups");
  says(message_of_part(make(Format::gptq, 4, 64, 256, 64, false, true), {}, {{0, 128}}, 64, 128), "act-order");
  says(message_of_part(layer, {{-5, 8}}, {}, 8, 256), "takes 8 outputs from -5 on");
}
