// Layer norm in fp64, for the tests of every backend's.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

// Of rows of `columns` numbers; `bias` may be empty.
inline std::vector<double> layer_norm_reference(const std::vector<float>& x, int64_t columns,
                                                const std::vector<float>& weight, const std::vector<float>& bias,
                                                double eps) {
  const auto width = static_cast<size_t>(columns);
  std::vector<double> out;
  for (size_t row = 0; row < x.size(); row += width) {
    double mean = 0, squares = 0;
    for (size_t c = 0; c < width; ++c) mean += x[row + c] / static_cast<double>(columns);
    for (size_t c = 0; c < width; ++c) squares += (x[row + c] - mean) * (x[row + c] - mean);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + eps);
    for (size_t c = 0; c < width; ++c) {
      out.push_back((x[row + c] - mean) * factor * weight[c] + (bias.empty() ? 0.0 : bias[c]));
    }
  }
  return out;
}
