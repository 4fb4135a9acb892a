// The proof that a padded linear is the original: padded layers pass it, and any bit that is flipped in one fails it.
#include "padding/compare.h"

#include <bit>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "support/check.h"
#include "support/written_layer.h"

using namespace billfish;
using namespace fixtures;

namespace {

constexpr int64_t added_outputs = 8;

std::vector<float> bias_of(int64_t outputs) {
  std::vector<float> bias;
  for (int64_t i = 0; i < outputs; ++i) bias.push_back(static_cast<float>(i) - 3.25f);
  return bias;
}

// A layer, its bias, and the same with 8 outputs and one group of inputs more, which contribute nothing.
struct Pair {
  Pair(Format format, int bits, int64_t out, int64_t in, int64_t group_size, bool symmetric, bool act_order)
      : before(make(format, bits, out, in, group_size, symmetric, act_order)), after(before), bias(bias_of(out)) {
    after.out = out + added_outputs;
    after.in = in + group_size;
    const int64_t groups = before.groups(), padded_groups = after.groups();
    const uint32_t middle = 1u << (bits - 1);
    // Asymmetric: any zero point will do for what is added, as long as the codes are at it.
    const uint32_t zero = symmetric ? middle : 3;
    after.codes.assign(after.out * after.in, zero);
    after.zeros.assign(after.out * padded_groups, zero);
    after.scales.assign(after.out * padded_groups, 0);
    for (int64_t row = 0; row < out; ++row) {
      for (int64_t k = 0; k < in; ++k) after.codes[row * after.in + k] = before.codes[row * in + k];
      for (int64_t g = 0; g < groups; ++g) {
        after.zeros[row * padded_groups + g] = before.zeros[row * groups + g];
        after.scales[row * padded_groups + g] = before.scales[row * groups + g];
      }
    }
    for (int64_t k = in; k < after.in; ++k) after.group_of.push_back(static_cast<int32_t>(groups));
    padded_bias = bias;
    padded_bias.resize(after.out);
  }

  // What find_difference() says of them as they are now; empty for nothing.
  std::string difference() const {
    const auto written = [](const Layer& layer, const std::vector<float>& numbers, TemporaryFile& file) {
      QuantizedSpec spec = write(layer, file, false);
      spec.bias = file.write("bias", DType::f32, {layer.out}, numbers);
      return spec;
    };
    TemporaryFile original_file, padded_file;
    const PaddedLinear linear{written(before, bias, original_file),
                              written(after, padded_bias, padded_file),
                              {{0, before.out}, {ChannelRun::zeros, added_outputs}},
                              {{0, before.in}, {ChannelRun::zeros, before.group_size}}};
    return find_difference(linear, original_file.map(), padded_file.map(), Control()).value_or("");
  }

  Layer before, after;
  std::vector<float> bias, padded_bias;
};

void check_found(const std::string& text, const std::string& what, int64_t row) {
  CHECK_MESSAGE(text.find(what) != std::string::npos, what << " is not in: " << text);
  const std::string output = "output " + std::to_string(row);
  CHECK_MESSAGE(text.find(output) != std::string::npos, output << " is not in: " << text);
}

// Flips every bit of the number at `index` in turn; each must be found.
template <class Number>
void check_flips(const Pair& pair, std::vector<Number>& numbers, int64_t index, int bits, const std::string& what,
                 int64_t row) {
  for (int bit = 0; bit < bits; ++bit) {
    numbers[index] ^= static_cast<Number>(1u << bit);
    check_found(pair.difference(), what, row);
    numbers[index] ^= static_cast<Number>(1u << bit);
  }
}

void check_pair(Pair pair) {
  CHECK(pair.difference() == "");
  Layer& after = pair.after;
  const int64_t groups = after.groups();
  for (const int64_t row : {int64_t{0}, pair.before.out - 1, after.out - 1}) {
    for (const int64_t input : {int64_t{0}, pair.before.in - 1, after.in - 1}) {
      const int64_t index = row * after.in + input;
      check_flips(pair, after.codes, index, after.bits, "input " + std::to_string(input) + ",", row);
    }
    for (const int64_t group : {int64_t{0}, groups - 2, groups - 1}) {
      check_flips(pair, after.scales, row * groups + group, 16, "scale", row);
    }
    // The zero points of a group that the original has; what is added may have any, and its codes are checked.
    if (!after.symmetric && row < pair.before.out) {
      check_flips(pair, after.zeros, row * groups + groups - 2, after.bits, "zero point", row);
    }
    for (int bit = 0; bit < 32; ++bit) {
      const float right = pair.padded_bias[row];
      pair.padded_bias[row] = std::bit_cast<float>(std::bit_cast<uint32_t>(right) ^ 1u << bit);
      check_found(pair.difference(), "bias", row);  // among them -0 for an added output
      pair.padded_bias[row] = right;
    }
  }
  if (!after.act_order) return;
  for (int64_t k = 1; k < pair.before.in; ++k) {
    if (after.group_of[k] == after.group_of[0]) continue;
    std::swap(after.group_of[0], after.group_of[k]);
    CHECK(pair.difference().find("into group") != std::string::npos);
    break;
  }
}

}  // namespace

TEST(compare_finds_every_flipped_bit_of_gptq) {
  check_pair(Pair(Format::gptq, 4, 16, 96, 32, false, false));
  check_pair(Pair(Format::gptq, 4, 16, 96, 32, true, true));
  check_pair(Pair(Format::gptq, 8, 16, 64, 32, false, true));
}

TEST(compare_finds_every_flipped_bit_of_awq) { check_pair(Pair(Format::awq, 4, 16, 96, 32, false, false)); }

TEST(compare_finds_every_flipped_bit_of_compressed_tensors) {
  check_pair(Pair(Format::compressed_tensors, 4, 11, 96, 32, true, false));
  check_pair(Pair(Format::compressed_tensors, 8, 11, 96, 32, false, true));
}

TEST(compare_finds_every_flipped_bit_of_a_matrix) {
  constexpr int64_t out = 5, in = 7, padded_out = 8, padded_in = 16;
  std::vector<uint16_t> before, after(padded_out * padded_in, 0);
  for (int64_t i = 0; i < out * in; ++i) before.push_back(static_cast<uint16_t>(i * 1777 + 5));
  before[3] = 0x7e01;  // a NaN equals itself: the bits are compared
  for (int64_t row = 0; row < out; ++row) {
    for (int64_t k = 0; k < in; ++k) after[row * padded_in + k] = before[row * in + k];
  }
  const auto difference = [&] {
    TemporaryFile original_file, padded_file;
    const MatrixSpec original{"m", out, in, original_file.write("w", DType::f16, {out, in}, before), {}, {}, {}};
    const MatrixSpec padded{
        "m", padded_out, padded_in, padded_file.write("w", DType::f16, {padded_out, padded_in}, after), {}, {}, {}};
    const PaddedLinear linear{original,
                              padded,
                              {{0, out}, {ChannelRun::zeros, padded_out - out}},
                              {{0, in}, {ChannelRun::zeros, padded_in - in}}};
    return find_difference(linear, original_file.map(), padded_file.map(), Control()).value_or("");
  };
  CHECK(difference() == "");
  for (size_t i = 0; i < after.size(); ++i) {
    after[i] ^= static_cast<uint16_t>(1u << i % 16);
    check_found(difference(), "bits", static_cast<int64_t>(i) / padded_in);
    after[i] ^= static_cast<uint16_t>(1u << i % 16);
  }
}

TEST(compare_ends_once_cancelled) {
  const Layer layer = make(Format::gptq, 4, 16, 96, 32, false, false);
  TemporaryFile file;
  const QuantizedSpec spec = write(layer, file);
  Control control;
  control.cancelled = true;
  CHECK_THROWS(find_difference({spec, spec, {}, {}}, file.map(), file.map(), control), "ABORTED");
}
