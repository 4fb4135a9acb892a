// What the tests of attention share: sequences over a paged cache, batches of them, and a head's output in fp64.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "engine/batch.h"

namespace attention_test {

// What a step computes of a sequence: tokens [past, past + rows).
struct Part {
  int past, rows;
};

// Sequences of these lengths, in blocks in random order over the whole cache, some of them nobody's.
struct Sequences {
  Sequences(const std::vector<int>& lengths, int block_size, std::mt19937& random) {
    for (const int length : lengths) {
      first_token.push_back(tokens);
      tokens += length;
      tables.emplace_back((length + block_size - 1) / block_size);
      blocks += static_cast<int32_t>(tables.back().size());
    }
    std::vector<int32_t> order(static_cast<size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    for (std::vector<int32_t>& table : tables) {
      for (int32_t& block : table) block = order.back(), order.pop_back();
    }
  }

  // A step of the first parts.size() sequences.
  billfish::Batch batch(const std::vector<Part>& parts) const {
    billfish::Batch batch;
    for (size_t s = 0; s < parts.size(); ++s) {
      const auto [past, rows] = parts[s];
      batch.sequences.push_back({batch.rows(), rows, past, tables[s].data(), static_cast<int32_t>(tables[s].size())});
      for (int i = 0; i < rows; ++i) {
        batch.tokens.push_back(0);
        batch.positions.push_back(past + i);
      }
    }
    return batch;
  }

  std::vector<int> first_token;  // of each sequence, among all tokens
  std::vector<std::vector<int32_t>> tables;
  int32_t tokens = 0, blocks = 3;
};

// The first key that a position sees.
inline int first_key(int position, int window) { return window > 0 ? std::max(0, position - window + 1) : 0; }

struct HeadOutput {
  std::vector<double> values, magnitudes;  // magnitudes: weighted sums of |value|
  double largest_score = 0;                // in magnitude
};

// softmax(scale * q.k) v over the keys [first, last], with q(column), k(key, column) and v(key, column).
template <class Query, class Key, class Value>
HeadOutput attend(int head_dim, double scale, int64_t first, int64_t last, Query q, Key k, Value v) {
  HeadOutput out;
  std::vector<double> weights;
  for (int64_t key = first; key <= last; ++key) {
    double score = 0;
    for (int c = 0; c < head_dim; ++c) score += static_cast<double>(q(c)) * k(key, c);
    weights.push_back(score * scale);
    out.largest_score = std::max(out.largest_score, std::abs(weights.back()));
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - highest);
  for (int c = 0; c < head_dim; ++c) {
    double value = 0, magnitude = 0;
    for (int64_t key = first; key <= last; ++key) {
      const double term = weights[static_cast<size_t>(key - first)] / sum * v(key, c);
      value += term;
      magnitude += std::abs(term);
    }
    out.values.push_back(value);
    out.magnitudes.push_back(magnitude);
  }
  return out;
}

}  // namespace attention_test
