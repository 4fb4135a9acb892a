// The sums that padded checkpoints are verified with: exact for small whole numbers, and the same bits with zeros in
// between.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "padding/products.h"
#include "support/check.h"
#include "support/every_instruction_set.h"

using namespace billfish::padding;

namespace {

constexpr int awq_order[] = {0, 2, 4, 6, 1, 3, 5, 7};

// Words of the xorshift generator.
struct Random {
  uint32_t state = 1;
  uint32_t next() {
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
  }
  // A number without many zero bits.
  double number() { return static_cast<double>(next()) / 3e9 - 0.7; }
};

std::vector<double> numbers(Random& random, size_t count) {
  std::vector<double> values(count);
  for (double& value : values) value = random.number();
  return values;
}

// What all formats hold here: codes [outputs, inputs], and a grid with a group of inputs that goes on after another
// one.
struct Layer {
  size_t outputs, inputs, groups = 3;
  int bits;
  std::vector<uint32_t> codes;
  std::vector<float> scales;   // [groups, outputs]
  std::vector<uint8_t> zeros;  // the same
  std::vector<int32_t> group_of;

  Layer(Random& random, size_t outputs, size_t inputs, int bits) : outputs(outputs), inputs(inputs), bits(bits) {
    for (size_t i = 0; i < outputs * inputs; ++i) codes.push_back(random.next() >> (32 - bits));
    for (size_t i = 0; i < outputs * groups; ++i) scales.push_back(static_cast<float>(random.number()));
    for (size_t i = 0; i < outputs * groups; ++i) zeros.push_back(static_cast<uint8_t>(random.next() >> (32 - bits)));
    for (size_t k = 0; k < inputs; ++k) group_of.push_back(static_cast<int32_t>(k * groups / inputs + k % 5 / 4) % 3);
  }

  double weight(size_t n, size_t k) const {
    const size_t at = static_cast<size_t>(group_of[k]) * outputs + n;
    return static_cast<double>(scales[at]) * (static_cast<int>(codes[n * inputs + k]) - zeros[at]);
  }

  // One input after another.
  std::vector<double> in_turn(const std::vector<double>& x) const {
    std::vector<double> y(outputs);
    for (size_t n = 0; n < outputs; ++n) {
      for (size_t k = 0; k < inputs; ++k) {
        const double product = weight(n, k) * x[k];
        y[n] += product;
      }
    }
    return y;
  }
};

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

}  // namespace

TEST(padding_products_gptq) {
  on_every_instruction_set([] {
    Random random;
    for (const int bits : {4, 8}) {
      const Layer layer(random, 37, 72, bits);
      const size_t per_word = 32 / static_cast<size_t>(bits);
      std::vector<uint32_t> words(layer.inputs / per_word * layer.outputs);
      for (size_t n = 0; n < layer.outputs; ++n) {
        for (size_t k = 0; k < layer.inputs; ++k) {
          words[k / per_word * layer.outputs + n] |= layer.codes[n * layer.inputs + k] << (k % per_word * bits);
        }
      }
      const std::vector<double> x = numbers(random, layer.inputs);
      std::vector<double> y(layer.outputs);
      const Grid grid{layer.scales.data(), layer.zeros.data(), layer.groups, layer.group_of.data()};
      product_kernels().add_gptq(words.data(), bits, layer.inputs / per_word, layer.outputs, grid, x.data(), y.data());
      CHECK(same_bits(y, layer.in_turn(x)));
    }
  });
}

TEST(padding_products_awq) {
  on_every_instruction_set([] {
    Random random;
    const Layer layer(random, 40, 19, 4);
    std::vector<uint32_t> words(layer.inputs * layer.outputs / 8);
    std::vector<float> scales(layer.scales.size());
    std::vector<uint8_t> zeros(layer.zeros.size());
    const auto tile_coord = [&](size_t n, size_t place) { return place * (layer.outputs / 8) + n / 8; };
    std::vector<size_t> places(layer.outputs);
    for (size_t n = 0; n < layer.outputs; ++n) {
      size_t place = 0;
      while (awq_order[place] != static_cast<int>(n % 8)) ++place;
      places[n] = tile_coord(n, place);
      for (size_t k = 0; k < layer.inputs; ++k) {
        words[k * layer.outputs / 8 + n / 8] |= layer.codes[n * layer.inputs + k] << (4 * place);
      }
      for (size_t group = 0; group < layer.groups; ++group) {
        scales[group * layer.outputs + places[n]] = layer.scales[group * layer.outputs + n];
        zeros[group * layer.outputs + places[n]] = layer.zeros[group * layer.outputs + n];
      }
    }
    const std::vector<double> x = numbers(random, layer.inputs);
    std::vector<double> y(layer.outputs), in_order(layer.outputs);
    const Grid grid{scales.data(), zeros.data(), layer.groups, layer.group_of.data()};
    product_kernels().add_awq(words.data(), layer.inputs, layer.outputs, grid, x.data(), y.data());
    for (size_t n = 0; n < layer.outputs; ++n) in_order[n] = y[places[n]];
    CHECK(same_bits(in_order, layer.in_turn(x)));
  });
}

namespace {

// `layer` as compressed-tensors packs it, times x.
std::vector<double> by_rows(const Layer& layer, const std::vector<double>& x, size_t leading) {
  const size_t per_word = 32 / static_cast<size_t>(layer.bits);
  const size_t row_words = (layer.inputs + per_word - 1) / per_word;
  std::vector<uint32_t> words(layer.outputs * row_words);
  std::vector<float> scales(layer.scales.size());
  std::vector<uint8_t> zeros(layer.zeros.size());
  for (size_t n = 0; n < layer.outputs; ++n) {
    for (size_t k = 0; k < layer.inputs; ++k) {
      words[n * row_words + k / per_word] |= layer.codes[n * layer.inputs + k] << (k % per_word * layer.bits);
    }
    for (size_t group = 0; group < layer.groups; ++group) {
      scales[n * layer.groups + group] = layer.scales[group * layer.outputs + n];
      zeros[n * layer.groups + group] = layer.zeros[group * layer.outputs + n];
    }
  }
  std::vector<double> y(layer.outputs);
  const Grid grid{scales.data(), zeros.data(), layer.groups, layer.group_of.data()};
  product_kernels().multiply_rows(words.data(), layer.bits, layer.outputs, grid, {x.data(), x.size(), leading},
                                  y.data());
  return y;
}

// One channel more behind each of the first `count` ones, whose code is the zero point.
Layer interleaved(const Layer& layer, std::vector<double>& x, size_t count) {
  Layer padded = layer;
  padded.inputs += count;
  padded.codes.clear();
  padded.group_of.clear();
  std::vector<double> padded_x;
  for (size_t k = 0; k < layer.inputs; ++k) {
    padded.group_of.insert(padded.group_of.end(), k < count ? 2 : 1, layer.group_of[k]);
    padded_x.push_back(x[k]);
    if (k < count) padded_x.push_back(1e200);
  }
  for (size_t n = 0; n < layer.outputs; ++n) {
    for (size_t k = 0; k < layer.inputs; ++k) {
      padded.codes.push_back(layer.codes[n * layer.inputs + k]);
      if (k < count) padded.codes.push_back(layer.zeros[static_cast<size_t>(layer.group_of[k]) * layer.outputs + n]);
    }
  }
  x = padded_x;
  return padded;
}

}  // namespace

TEST(padding_products_rows) {
  on_every_instruction_set([] {
    Random random;
    for (const int bits : {4, 8}) {
      const Layer layer(random, 5, 1203, bits);  // two blocks, and words that end within a row
      std::vector<double> x = numbers(random, layer.inputs);
      CHECK(same_bits(by_rows(layer, x, layer.inputs), layer.in_turn(x)));
      const std::vector<double> y = by_rows(layer, x, 0), expected = layer.in_turn(x);
      for (size_t n = 0; n < y.size(); ++n) CHECK(std::abs(y[n] - expected[n]) < 1e-10);
      const std::vector<double> unpadded = by_rows(layer, x, 101);
      const Layer padded = interleaved(layer, x, 101);
      CHECK(same_bits(by_rows(padded, x, 202), unpadded));
    }
  });
}

TEST(padding_products_floats) {
  on_every_instruction_set([] {
    // Every fp16 number but infinities and NaN, against its definition.
    std::vector<uint16_t> halves;
    std::vector<double> values;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const int exponent = static_cast<int>(bits >> 10 & 31);
      if (exponent == 31) continue;
      const double fraction = (bits & 1023) / 1024.0 + (exponent == 0 ? 0 : 1);
      halves.push_back(static_cast<uint16_t>(bits));
      values.push_back(std::ldexp(bits & 0x8000 ? -fraction : fraction, std::max(exponent, 1) - 15));
    }
    std::vector<double> y(halves.size());
    const double one = 1;
    product_kernels().multiply_floats(halves.data(), FloatType::f16, y.size(), {&one, 1, 0}, y.data());
    CHECK(y == values);
    const uint16_t special[] = {0x7c00, 0xfc00, 0x7e00};
    product_kernels().multiply_floats(special, FloatType::f16, 3, {&one, 1, 1}, y.data());
    CHECK(y[0] == HUGE_VAL);
    CHECK(y[1] == -HUGE_VAL);
    CHECK(std::isnan(y[2]));

    Random random;
    const size_t inputs = 777, zeros = 50;
    const std::vector<double> x = numbers(random, inputs);
    std::vector<float> w(2 * inputs), interleaved;
    std::vector<uint16_t> rounded(w.size());
    std::vector<double> padded_x;
    for (size_t i = 0; i < w.size(); ++i) {
      w[i] = static_cast<float>(random.number());
      uint32_t bits;
      std::memcpy(&bits, &w[i], 4);
      rounded[i] = static_cast<uint16_t>(bits >> 16);
    }
    std::vector<double> plain(2), in_turn(2), of_rounded(2);
    product_kernels().multiply_floats(w.data(), FloatType::f32, 2, {x.data(), inputs, inputs}, in_turn.data());
    product_kernels().multiply_floats(w.data(), FloatType::f32, 2, {x.data(), inputs, zeros}, plain.data());
    product_kernels().multiply_floats(rounded.data(), FloatType::bf16, 2, {x.data(), inputs, 0}, of_rounded.data());
    for (size_t r = 0; r < 2; ++r) {
      double sum = 0;
      for (size_t k = 0; k < inputs; ++k) {
        const double product = w[r * inputs + k] * x[k];
        sum += product;
        interleaved.push_back(w[r * inputs + k]);
        if (k < zeros) interleaved.push_back(0);
        if (r == 0) padded_x.push_back(x[k]);
        if (r == 0 && k < zeros) padded_x.push_back(1e200);
      }
      CHECK(in_turn[r] == sum);
      CHECK(std::abs(plain[r] - sum) < 1e-10);
      CHECK(plain[r] != 0);
      CHECK(std::abs(of_rounded[r] - sum) < 2);
      CHECK(of_rounded[r] != sum);
      for (int i = 0; i < 7; ++i) interleaved.push_back(0);
      if (r == 0) padded_x.insert(padded_x.end(), 7, 1e200);
    }
    std::vector<double> padded(2);
    product_kernels().multiply_floats(interleaved.data(), FloatType::f32, 2,
                                      {padded_x.data(), padded_x.size(), 2 * zeros}, padded.data());
    CHECK(same_bits(padded, plain));
  });
}
