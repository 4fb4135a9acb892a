// The kernels of products.h, once for each instruction set that the compiler vectorizes them for.
#pragma once
#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "padding/products.h"

namespace billfish::padding {
namespace {

constexpr size_t lane_count = 16;
// Weights of a row that are decoded at a time: they stay in the first-level cache.
constexpr size_t block_inputs = 512;

// The sum of one output over the inputs, as Inputs says.
struct Sum {
  double leading = 0;
  double lanes[lane_count] = {};

  void add_leading(const double* w, const double* x, size_t count) {
    for (size_t k = 0; k < count; ++k) leading += w[k] * x[k];
  }

  // The first of these inputs has lane 0.
  void add(const double* w, const double* x, size_t count) {
    double sums[lane_count];
    std::copy_n(lanes, lane_count, sums);
    size_t k = 0;
    for (; k + lane_count <= count; k += lane_count) {
      for (size_t lane = 0; lane < lane_count; ++lane) sums[lane] += w[k + lane] * x[k + lane];
    }
    for (size_t lane = 0; k + lane < count; ++lane) sums[lane] += w[k + lane] * x[k + lane];
    std::copy_n(sums, lane_count, lanes);
  }

  double total() const {
    double sum = leading;
    for (double lane : lanes) sum += lane;
    return sum;
  }
};

// The product of x and a row of weights. `decode(from, to, w)` decodes those of inputs [from, to), in turn.
template <class Decode>
double product(const Inputs& inputs, Decode decode) {
  double w[block_inputs];
  Sum sum;
  for (size_t k = 0; k < inputs.count;) {
    const bool is_leading = k < inputs.leading;
    const size_t end = std::min(k + block_inputs, is_leading ? inputs.leading : inputs.count);
    decode(k, end, w);
    if (is_leading) {
      sum.add_leading(w, inputs.x + k, end - k);
    } else {
      sum.add(w, inputs.x + k, end - k);
    }
    k = end;
  }
  return sum.total();
}

// fp16 as fp32: shifted into place its exponent is too small by 112, which a multiplication mends, that of subnormal
// numbers included; infinities and NaN have the largest exponent.
inline float widen_half(uint16_t half) {
  const uint32_t magnitude = (half & 0x7fffu) << 13;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t exponent = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | exponent | (half & 0x8000u) << 16);
}

template <class Stored, class Widen>
void multiply_floats(const void* values, size_t rows, const Inputs& inputs, double* y, Widen widen) {
  for (size_t r = 0; r < rows; ++r) {
    const Stored* row = static_cast<const Stored*>(values) + r * inputs.count;
    y[r] = product(inputs, [&](size_t from, size_t to, double* w) {
      for (size_t k = from; k < to; ++k) w[k - from] = widen(row[k]);
    });
  }
}

void multiply_floats(const void* values, FloatType type, size_t rows, const Inputs& inputs, double* y) {
  switch (type) {
    case FloatType::f32:
      return multiply_floats<float>(values, rows, inputs, y, [](float value) { return value; });
    case FloatType::f16:
      return multiply_floats<uint16_t>(values, rows, inputs, y, [](uint16_t half) { return widen_half(half); });
    case FloatType::bf16:
      return multiply_floats<uint16_t>(values, rows, inputs, y, [](uint16_t bits) {
        return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
      });
  }
}

// Neighboring inputs of one group.
struct Segment {
  size_t end;
  int32_t group;
};

std::vector<Segment> segments_of(const int32_t* group_of, size_t inputs) {
  std::vector<Segment> segments;
  for (size_t k = 0; k < inputs; ++k) {
    if (segments.empty() || segments.back().group != group_of[k]) segments.push_back({k, group_of[k]});
    segments.back().end = k + 1;
  }
  return segments;
}

template <int bits>
void multiply_rows_of(const uint32_t* words, size_t rows, const Grid& grid, const Inputs& inputs, double* y) {
  constexpr size_t per_word = 32 / bits;
  constexpr uint32_t mask = (1u << bits) - 1;
  const std::vector<Segment> segments = segments_of(grid.group_of, inputs.count);
  const size_t row_words = (inputs.count + per_word - 1) / per_word;
  for (size_t r = 0; r < rows; ++r) {
    const uint32_t* row = words + r * row_words;
    const float* scales = grid.scales + r * grid.groups;
    const uint8_t* zeros = grid.zeros + r * grid.groups;
    auto segment = segments.begin();
    y[r] = product(inputs, [&](size_t from, size_t to, double* w) {
      int32_t codes[block_inputs + 2 * per_word];  // of whole words
      const size_t first = from / per_word * per_word;
      for (size_t word = from / per_word; word * per_word < to; ++word) {
        for (size_t i = 0; i < per_word; ++i) {
          codes[word * per_word - first + i] = static_cast<int32_t>(row[word] >> (i * bits) & mask);
        }
      }
      for (size_t k = from; k < to;) {
        const size_t end = std::min(segment->end, to);
        const double scale = scales[segment->group];
        const int32_t zero = zeros[segment->group];
        for (size_t i = k; i < end; ++i) w[i - from] = scale * (codes[i - first] - zero);
        k = end;
        if (k == segment->end) ++segment;
      }
    });
  }
}

void multiply_rows(const uint32_t* words, int bits, size_t rows, const Grid& grid, const Inputs& inputs, double* y) {
  if (bits == 4) {
    multiply_rows_of<4>(words, rows, grid, inputs, y);
  } else {
    multiply_rows_of<8>(words, rows, grid, inputs, y);
  }
}

// An input of several outputs: where its codes lie, in words of their own, and how they become weights.
struct Column {
  const uint32_t* words;
  int shift;
  const float* scales;
  const uint8_t* zeros;
  double x;
};

// y[n] += the sum over count inputs, from the first to the last. same: they are of one group.
template <size_t count, bool same>
void add_columns(const Column* columns, uint32_t mask, size_t outputs, double* __restrict y) {
  Column c[count];
  std::copy_n(columns, count, c);
  for (size_t n = 0; n < outputs; ++n) {
    double sum = y[n];
    for (size_t j = 0; j < count; ++j) {
      const Column& of = c[same ? 0 : j];
      const auto code = static_cast<int32_t>(c[j].words[n] >> c[j].shift & mask);
      sum += static_cast<double>(of.scales[n]) * (code - of.zeros[n]) * c[j].x;
    }
    y[n] = sum;
  }
}

template <size_t count>
void add_columns(const Column* columns, uint32_t mask, size_t outputs, double* y) {
  const bool same =
      std::all_of(columns, columns + count, [&](const Column& column) { return column.scales == columns->scales; });
  if (same) {
    add_columns<count, true>(columns, mask, outputs, y);
  } else {
    add_columns<count, false>(columns, mask, outputs, y);
  }
}

void add_gptq(const uint32_t* words, int bits, size_t word_rows, size_t outputs, const Grid& grid, const double* x,
              double* y) {
  const size_t per_word = 32 / static_cast<size_t>(bits);
  const uint32_t mask = (1u << bits) - 1;
  for (size_t row = 0; row < word_rows; ++row) {
    Column columns[8];
    for (size_t j = 0; j < per_word; ++j) {
      const size_t k = row * per_word + j;
      const size_t at = static_cast<size_t>(grid.group_of[k]) * outputs;
      columns[j] = {words + row * outputs, static_cast<int>(j) * bits, grid.scales + at, grid.zeros + at, x[k]};
    }
    if (bits == 4) {
      add_columns<8>(columns, mask, outputs, y);
    } else {
      add_columns<4>(columns, mask, outputs, y);
    }
  }
}

void add_awq(const uint32_t* words, size_t inputs, size_t outputs, const Grid& grid, const double* x, double* y) {
  constexpr size_t together = 8;
  const size_t row_words = outputs / 8;
  const auto add = [&]<size_t count>(size_t k, std::integral_constant<size_t, count>) {
    for (size_t place = 0; place < 8; ++place) {
      Column columns[count];
      for (size_t j = 0; j < count; ++j) {
        const size_t at = static_cast<size_t>(grid.group_of[k + j]) * outputs + place * row_words;
        columns[j] = {words + (k + j) * row_words, static_cast<int>(place) * 4, grid.scales + at, grid.zeros + at,
                      x[k + j]};
      }
      add_columns<count>(columns, 15, row_words, y + place * row_words);
    }
  };
  size_t k = 0;
  for (; k + together <= inputs; k += together) add(k, std::integral_constant<size_t, together>{});
  for (; k < inputs; ++k) add(k, std::integral_constant<size_t, 1>{});
}

constexpr ProductKernels kernels = {multiply_floats, multiply_rows, add_gptq, add_awq};

}  // namespace
}  // namespace billfish::padding
