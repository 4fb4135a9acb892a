// The readers against layers written from known codes, and against specs that lie.
#include "checkpoint/readers.h"

#include <algorithm>
#include <limits>
#include <random>
#include <thread>

#include "engine/error.h"
#include "support/check.h"
#include "support/written_layer.h"

using namespace billfish;
using namespace fixtures;

namespace {

void check_rows(const Layer& layer, const CanonicalSource& source, int64_t first, int64_t count, CanonicalRows& rows) {
  source.read(first, count, rows);
  const CanonicalShape& shape = source.shape();
  const int64_t words = shape.words_per_row(), groups = shape.groups(), per_word = 32 / shape.bits;
  CHECK(rows.first == first);
  CHECK(rows.count == count);
  CHECK(static_cast<int64_t>(rows.codes.size()) == count * words);
  CHECK(static_cast<int64_t>(rows.scales.size()) == count * groups * 2);
  CHECK(static_cast<int64_t>(rows.zeros.size()) == (layer.symmetric ? 0 : count * groups));
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < words * per_word; ++k) {
      const uint32_t code =
          rows.codes[i * words + k / per_word] >> (k % per_word * shape.bits) & ((1u << shape.bits) - 1);
      wrong += code != (k < layer.in ? layer.codes[(first + i) * layer.in + layer.expected_order[k]] : 0);
    }
    for (int64_t g = 0; g < groups; ++g) {
      uint16_t scale;
      std::memcpy(&scale, rows.scales.data() + (i * groups + g) * 2, 2);
      wrong += scale != layer.scales[(first + i) * groups + g];
      if (!layer.symmetric) wrong += rows.zeros[i * groups + g] != layer.zeros[(first + i) * groups + g];
    }
    wrong += rows.bias.at(i) != static_cast<float>(first + i) + 0.5f;
  }
  CHECK_MESSAGE(wrong == 0, wrong << " numbers differ in rows " << first << " to " << first + count);
}

void check_layer(const Layer& layer) {
  TemporaryFile file;
  const QuantizedSpec spec = write(layer, file);
  const MappedFiles files = file.map();
  const auto source = open_quantized(spec, files);
  CHECK(source->shape().order == (layer.act_order ? layer.expected_order : std::vector<int32_t>()));
  CHECK(source->shape().has_zero_points == !layer.symmetric);
  CHECK(source->shape().has_bias);
  CanonicalRows rows;
  check_rows(layer, *source, 0, layer.out, rows);
  for (const int64_t first : {0, 1, 7, 8, 63, 64, 65}) {
    for (const int64_t count : {0, 1, 3, 8, 63, 64, 65, 130}) {
      if (first + count <= layer.out) check_rows(layer, *source, first, count, rows);
    }
  }
  CHECK_THROWS(source->read(0, layer.out + 1, rows), "INTERNAL");
  CHECK_THROWS(source->read(-1, 1, rows), "INTERNAL");
  CHECK_THROWS(source->read(std::numeric_limits<int64_t>::max(), 2, rows), "INTERNAL");
}

}  // namespace

TEST(readers_read_gptq) {
  check_layer(make(Format::gptq, 4, 200, 1056, 32, false, false));
  check_layer(make(Format::gptq, 4, 136, 520, 128, true, false));  // the last group is short
  check_layer(make(Format::gptq, 8, 72, 260, 260, false, false));
}

TEST(readers_read_gptq_with_act_order) {
  check_layer(make(Format::gptq, 4, 200, 1056, 32, false, true));
  check_layer(make(Format::gptq, 4, 136, 520, 128, true, true));
  check_layer(make(Format::gptq, 8, 130, 260, 64, false, true));
}

TEST(readers_read_awq) {
  check_layer(make(Format::awq, 4, 200, 1056, 32, false, false));
  check_layer(make(Format::awq, 4, 72, 100, 100, false, false));  // the last word is not full
}

TEST(readers_read_awq_gemv) {
  check_layer(make(Format::awq_gemv, 4, 131, 1056, 32, false, false));
  check_layer(make(Format::awq_gemv, 4, 67, 200, 128, true, false));  // the last group is short
}

TEST(readers_refuse_awq_gemv_specs_that_contradict_their_tensors) {
  const Written written(make(Format::awq_gemv, 4, 64, 256, 64, false, false));
  const auto refused = [&](const char* what, auto spoil) {
    QuantizedSpec spec = written.spec;
    spoil(spec);
    const std::string message = message_of(spec, written.files);
    CHECK_MESSAGE(message.rfind("INVALID_CHECKPOINT: ", 0) == 0, what << ": " << message);
  };
  CHECK(message_of(written.spec, written.files) == "no error");
  refused("8 bits", [](auto& spec) { spec.bits = 8; });
  refused("inputs that do not fill words", [](auto& spec) { spec.in = 252; });
  refused("more groups than scales", [](auto& spec) { spec.group_size = 8; });
  refused("scales that do not fill words", [](auto& spec) { spec.scales.shape = {64, 12}; });
  refused("scales of no shape", [](auto& spec) { spec.scales.shape = {}; });
  refused("scales of a huge shape", [](auto& spec) { spec.scales.shape = {64, int64_t{1} << 62}; });
  refused("zeros of another width", [](auto& spec) { spec.zeros->shape = {64, 1}; });
  refused("GEMM's format", [](auto& spec) { spec.format = Format::awq; });
}

TEST(readers_read_compressed_tensors) {
  check_layer(make(Format::compressed_tensors, 4, 130, 256, 32, false, false));
  check_layer(make(Format::compressed_tensors, 4, 67, 131, 131, true, false));  // garbage after the last code
  check_layer(make(Format::compressed_tensors, 8, 67, 131, 64, false, false));
  check_layer(make(Format::compressed_tensors, 4, 67, 133, 32, false, true));
  check_layer(make(Format::compressed_tensors, 8, 70, 128, 32, true, true));
}

TEST(readers_read_compressed_tensors_with_one_number_a_byte) {
  const auto check = [](Layer layer) {
    layer.packed = false;
    check_layer(layer);
  };
  check(make(Format::compressed_tensors, 8, 130, 256, 32, false, false));
  check(make(Format::compressed_tensors, 8, 67, 131, 131, true, false));
  check(make(Format::compressed_tensors, 4, 67, 131, 64, false, false));
  check(make(Format::compressed_tensors, 4, 67, 133, 32, false, true));
}

TEST(readers_read_compressed_tensors_with_one_scale_for_all) {
  for (const bool packed : {false, true}) {
    for (const bool symmetric : {false, true}) {
      for (const int bits : {4, 8}) {
        Layer layer = make(Format::compressed_tensors, bits, 131, 133, 133, symmetric, false);
        layer.packed = packed;
        layer.scale_rows = layer.out;
        layer.fill_randomly(7);
        check_layer(layer);
      }
    }
  }
}

TEST(readers_refuse_one_scale_where_there_are_several) {
  Layer layer = make(Format::compressed_tensors, 8, 64, 256, 256, false, false);
  layer.packed = false;
  const Written several(layer);
  QuantizedSpec spec = several.spec;
  spec.scale_rows = 64;
  const std::string message = message_of(spec, several.files);
  CHECK_MESSAGE(message.find("'scale'") != std::string::npos, message);
  CHECK_MESSAGE(message.find("where [1, 1] is needed") != std::string::npos, message);
}

TEST(readers_read_packed_codes_beside_zero_points_that_are_not) {
  const Layer packed = make(Format::compressed_tensors, 4, 67, 133, 32, false, false);
  Layer numbers = packed;
  numbers.packed = false;
  const Written words(packed), bytes(numbers);
  QuantizedSpec mixed = words.spec;
  mixed.zeros = bytes.spec.zeros;
  mixed.zeros->file = static_cast<int>(words.files.size());
  MappedFiles files = words.files;
  files.insert(files.end(), bytes.files.begin(), bytes.files.end());
  CanonicalRows rows;
  check_rows(packed, *open_quantized(mixed, files), 0, packed.out, rows);
}

TEST(readers_refuse_numbers_that_do_not_fit_their_bits) {
  Layer layer = make(Format::compressed_tensors, 8, 64, 256, 64, false, false);
  layer.packed = false;
  const Written written(layer);
  CHECK(message_of(written.spec, written.files) == "no error");
  const auto refused = [&](const char* part, auto spoil) {
    QuantizedSpec spec = written.spec;
    spoil(spec);
    const std::string message = message_of(spec, written.files);
    CHECK_MESSAGE(message.rfind("INVALID_CHECKPOINT: ", 0) == 0, message);
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  };
  refused("which 4 bits (-8 to 7) do not", [](auto& spec) { spec.bits = 4; });
  refused("'weight'", [](auto& spec) { spec.codes.shape = {64, 128}; });
  refused("'zero'", [](auto& spec) { spec.zeros->shape = {16, 4}; });
  refused("'zero'", [](auto& spec) { spec.zeros->dtype = DType::i32; });
}

TEST(readers_read_fp8) {
  check_layer(make_fp8(200, 320, 128, 128));  // blocks end within the layer, both ways
  check_layer(make_fp8(131, 133, 1, 133));    // a scale for each output; the last word is not full
  check_layer(make_fp8(67, 131, 67, 131));    // one for all
  check_layer(make_fp8(70, 256, 1, 32));
}

TEST(readers_refuse_fp8_specs_that_contradict_their_tensors) {
  const Written written(make_fp8(200, 320, 128, 128));
  CHECK(message_of(written.spec, written.files) == "no error");
  const auto refused = [&](const char* part, auto spoil) {
    QuantizedSpec spec = written.spec;
    spoil(spec);
    const std::string message = message_of(spec, written.files);
    CHECK_MESSAGE(message.rfind("INVALID_CHECKPOINT: ", 0) == 0, message);
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  };
  refused("FP8 with 4 bits", [](auto& spec) { spec.bits = 4; });
  refused("zero points", [](auto& spec) { spec.symmetric = false, spec.zeros = spec.scales; });
  refused("an order of its inputs", [](auto& spec) { spec.group_index = spec.scales; });
  refused("outputs that share scales, 0", [](auto& spec) { spec.scale_rows = 0; });
  refused("outputs that share scales, 128", [](auto& spec) { spec.format = Format::gptq; });
  refused("'scale'", [](auto& spec) { spec.scale_rows = 64; });
  refused("'scale'", [](auto& spec) { spec.group_size = 64; });
  refused("'scale'", [](auto& spec) { spec.scales.shape = {3, 2}; });
  refused("'weight'", [](auto& spec) { spec.codes.shape = {320, 200}; });
  refused("F8_E4M3 is needed", [](auto& spec) { spec.codes.dtype = DType::i8; });
}

TEST(readers_refuse_fp8_numbers_that_are_none) {
  for (const uint32_t nan : {0x7fu, 0xffu}) {
    Layer layer = make_fp8(70, 40, 70, 40);
    layer.codes[40 * 65 + 3] = nan;
    const Written written(layer);
    const std::string message = message_of(written.spec, written.files);
    CHECK_MESSAGE(message.find("holds NaN for output 65, input 3") != std::string::npos, message);
  }
}

TEST(readers_work_from_many_threads) {
  const Layer layer = make(Format::gptq, 4, 256, 512, 64, false, true);
  const Written written(layer);
  const auto source = open_quantized(written.spec, written.files);
  std::vector<std::vector<uint32_t>> codes(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      CanonicalRows rows;
      source->read(64 * t, 64, rows);
      codes[t] = rows.codes;
    });
  }
  for (auto& thread : threads) thread.join();
  CanonicalRows rows;
  source->read(0, 256, rows);
  std::vector<uint32_t> joined;
  for (const auto& part : codes) joined.insert(joined.end(), part.begin(), part.end());
  CHECK(joined == rows.codes);
}

TEST(readers_recognize_the_natural_order) {
  Layer layer = make(Format::gptq, 4, 64, 256, 64, true, true);
  for (int64_t k = 0; k < layer.in; ++k) layer.group_of[k] = static_cast<int32_t>(k / 64);
  const Written natural(layer);
  CHECK(open_quantized(natural.spec, natural.files)->shape().order.empty());
  std::fill(layer.group_of.begin(), layer.group_of.end(), 0);
  const Written zero(layer);
  CHECK(open_quantized(zero.spec, zero.files)->shape().order.empty());
}

TEST(readers_refuse_impossible_group_indices) {
  const Layer good = make(Format::gptq, 4, 64, 256, 64, true, true);
  for (const int32_t group : {-1, 4, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    Layer layer = good;
    layer.group_of[17] = group;
    const Written written(layer);
    const std::string message = message_of(written.spec, written.files);
    CHECK_MESSAGE(message.find("input 17 into group " + std::to_string(group)) != std::string::npos, message);
  }
  Layer layer = good;
  layer.group_of[17] = (layer.group_of[17] + 1) % 4;
  const Written written(layer);
  CHECK_THROWS(open_quantized(written.spec, written.files), "INVALID_CHECKPOINT");
}

TEST(readers_refuse_scales_that_are_no_numbers) {
  for (const Format format : {Format::gptq, Format::awq, Format::awq_gemv, Format::compressed_tensors}) {
    for (const DType type : {DType::f16, DType::bf16}) {
      const uint16_t infinity = type == DType::f16 ? 0x7c00 : 0x7f80;
      for (const int bits : {0x0000, 0x0001, 0x8000}) {
        Layer layer = make(format, 4, 128, 128, 32, false, false);
        layer.scale_type = type;
        layer.scales[77 * 4 + 2] = static_cast<uint16_t>(infinity | bits);
        const Written written(layer);
        const std::string message = message_of(written.spec, written.files);
        CHECK_MESSAGE(message.find("output 77, group 2") != std::string::npos, message);
      }
    }
  }
}

TEST(readers_refuse_specs_that_contradict_their_tensors) {
  const Written written(make(Format::gptq, 4, 64, 256, 64, false, true));
  const auto refused = [&](const char* what, auto spoil) {
    QuantizedSpec spec = written.spec;
    spoil(spec);
    const std::string message = message_of(spec, written.files);
    CHECK_MESSAGE(message.rfind("INVALID_CHECKPOINT: ", 0) == 0, what << ": " << message);
  };
  const int64_t huge = std::numeric_limits<int64_t>::max();
  CHECK(message_of(written.spec, written.files) == "no error");
  refused("bits 0", [](auto& spec) { spec.bits = 0; });
  refused("bits 3", [](auto& spec) { spec.bits = 3; });
  refused("bits contradicting the shape", [](auto& spec) { spec.bits = 8; });
  refused("group size 0", [](auto& spec) { spec.group_size = 0; });
  refused("negative group size", [](auto& spec) { spec.group_size = -1; });
  refused("group size beyond the inputs", [](auto& spec) { spec.group_size = 257; });
  refused("other group size", [](auto& spec) { spec.group_size = 32; });
  refused("no outputs", [](auto& spec) { spec.out = 0; });
  refused("negative inputs", [](auto& spec) { spec.in = -256; });
  refused("huge", [&](auto& spec) { spec.out = spec.in = spec.group_size = huge; });
  refused("inputs that do not fill words", [](auto& spec) { spec.in = 255; });
  refused("zero offset", [](auto& spec) { spec.zero_offset = 2; });
  refused("no zeros", [](auto& spec) { spec.zeros.reset(); });
  refused("file -1", [](auto& spec) { spec.codes.file = -1; });
  refused("file 1 of 1", [](auto& spec) { spec.scales.file = 1; });
  refused("offset at the end", [](auto& spec) { spec.codes.offset = uint64_t{1} << 40; });
  refused("offset that wraps round", [](auto& spec) { spec.zeros->offset = UINT64_MAX - 8; });
  refused("too few bytes", [](auto& spec) { spec.codes.bytes -= 4; });
  refused("too many bytes", [](auto& spec) { spec.group_index->bytes += 4; });
  refused("shape whose product wraps round", [&](auto& spec) { spec.codes.shape = {huge, huge}; });
  refused("negative shape", [](auto& spec) { spec.scales.shape = {-4, -64}; });
  refused("codes of another type", [](auto& spec) { spec.codes.dtype = DType::f32; });
  refused("scales of another type", [](auto& spec) { spec.scales.dtype = DType::i32; });
  refused("bias too short", [](auto& spec) { spec.bias->shape = {63}, spec.bias->bytes = 63 * 4; });
  refused("AWQ's shape", [](auto& spec) { spec.format = Format::awq; });
  refused("stored shape of a wrong type", [](auto& spec) { spec.stored_shape = spec.scales; });
}

TEST(readers_compare_the_stored_shape) {
  const Written written(make(Format::compressed_tensors, 4, 64, 256, 64, true, false));
  CHECK(message_of(written.spec, written.files) == "no error");
  TemporaryFile other;
  const Layer layer = make(Format::compressed_tensors, 4, 64, 256, 64, true, false);
  QuantizedSpec spec = write(layer, other);
  spec.stored_shape = other.write("weight_shape", DType::i32, {2}, std::vector<int32_t>{64, 256});
  CHECK(message_of(spec, other.map()) == "no error");
  spec.stored_shape = other.write("weight_shape", DType::i32, {2}, std::vector<int32_t>{256, 64});
  const std::string message = message_of(spec, other.map());
  CHECK_MESSAGE(message.find("[256, 64], but it is [64, 256]") != std::string::npos, message);
}

TEST(readers_read_plain_matrices_and_vectors) {
  TemporaryFile file;
  std::vector<uint16_t> halves(6 * 4);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = float_to_bf16(static_cast<float>(i));
  MatrixSpec spec{"embed", 6, 4, file.write("weight", DType::bf16, {6, 4}, halves), {}, {}, {}};
  const TensorRef norm = file.write("norm", DType::f16, {3}, std::vector<uint16_t>{0x3c00, 0xc000, 0x0001});
  const TensorRef spoilt = file.write("spoilt", DType::f16, {3}, std::vector<uint16_t>{0x3c00, 0x7c00, 0});
  const MappedFiles files = file.map();
  const MatrixSource source(spec, files);
  std::vector<uint16_t> rows(8);
  source.read(3, 2, rows.data());
  CHECK(std::equal(rows.begin(), rows.end(), halves.begin() + 12));
  CHECK_THROWS(source.read(5, 2, rows.data()), "INTERNAL");
  release_source(spec, files);
  source.read(3, 2, rows.data());
  CHECK(std::equal(rows.begin(), rows.end(), halves.begin() + 12));

  const std::vector<float> values = read_vector(norm, 3, files);
  CHECK(values[0] == 1.0f);
  CHECK(values[1] == -2.0f);
  CHECK(values[2] == 0x1p-24f);
  CHECK_THROWS(read_vector(norm, 4, files), "INVALID_CHECKPOINT");
  CHECK_THROWS(read_vector(spoilt, 3, files), "INVALID_CHECKPOINT");
  spec.in = 3;
  CHECK_THROWS(MatrixSource(spec, files), "INVALID_CHECKPOINT");
}
