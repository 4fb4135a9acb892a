// The gated delta rule over the Vector of one kernels_*.cc.
#pragma once
#include <cstdint>

#include "cpu/kernels.h"

namespace billfish::cpu {
namespace {
namespace delta {

using Value = Vector::Value;

constexpr int vectors = static_cast<int>(state_columns) / Vector::width;

// Sums over the inputs of a head are kept in this many parts, so that one addition need not wait for the one before.
constexpr int parts = 4;

struct Columns {
  Value values[vectors];
};

inline Columns zeros() {
  Columns columns;
  for (int i = 0; i < vectors; ++i) columns.values[i] = Vector::zero();
  return columns;
}

// A row of x in parts: calls step(row, part) for all rows, which adds to that part.
template <class Step>
inline __attribute__((always_inline)) Columns sum_over(int64_t rows, Step step) {
  Columns sums[parts];
  for (int part = 0; part < parts; ++part) sums[part] = zeros();
  int64_t row = 0;
  for (; row + parts <= rows; row += parts) {
    for (int part = 0; part < parts; ++part) step(row + part, sums[part]);
  }
  for (; row < rows; ++row) step(row, sums[0]);
  for (int i = 0; i < vectors; ++i) {
    sums[0].values[i] = Vector::add(Vector::add(sums[0].values[i], sums[1].values[i]),
                                    Vector::add(sums[2].values[i], sums[3].values[i]));
  }
  return sums[0];
}

// With S before the decay D, normalized k' = kn * k and q' = qn * q:
//   m = k * S                  what the state has for this key, without D and kn
//   d = beta * (v - D kn m)    what it lacks
//   S = D S + k * (kn d)       out = qn (q * S)
void run(const DeltaTask& task) {
  float* const state = task.state;
  for (int64_t t = 0; t < task.tokens; ++t) {
    const float* const k = task.k + t * task.k_stride;
    const float* const q = task.q + t * task.q_stride;
    const DeltaGates gates = task.gates[t * task.gates_stride];
    const DeltaNorms norms = task.norms[t * task.norms_stride];
    const Columns found = sum_over(task.key_dim, [&](int64_t row, Columns& sum) {
      const Value key = Vector::broadcast(k[row]);
      const float* const from = state + row * task.state_stride;
      __builtin_prefetch(from + state_columns);  // the strip after this one, if the state is used where it lies
      for (int i = 0; i < vectors; ++i) {
        sum.values[i] = Vector::multiply_add(key, Vector::load(from + i * Vector::width), sum.values[i]);
      }
    });
    float values[state_columns] = {};
    for (int64_t i = 0; i < task.columns; ++i) values[i] = task.v[t * task.v_stride + i];
    const Value decay = Vector::broadcast(gates.decay), beta = Vector::broadcast(gates.beta * norms.k);
    const Value minus = Vector::broadcast(-gates.decay * norms.k);
    Columns lacking;
    for (int i = 0; i < vectors; ++i) {
      const Value v = Vector::load(values + i * Vector::width);
      lacking.values[i] = Vector::multiply(beta, Vector::multiply_add(minus, found.values[i], v));
    }
    const Columns read = sum_over(task.key_dim, [&](int64_t row, Columns& sum) {
      const Value key = Vector::broadcast(k[row]), query = Vector::broadcast(q[row]);
      for (int i = 0; i < vectors; ++i) {
        float* const at = state + row * task.state_stride + i * Vector::width;
        const Value next = Vector::multiply_add(key, lacking.values[i], Vector::multiply(decay, Vector::load(at)));
        Vector::store(at, next);
        sum.values[i] = Vector::multiply_add(query, next, sum.values[i]);
      }
    });
    const Value scale = Vector::broadcast(norms.q);
    for (int i = 0; i < vectors; ++i)
      Vector::store(values + i * Vector::width, Vector::multiply(scale, read.values[i]));
    for (int64_t i = 0; i < task.columns; ++i) task.out[t * task.out_stride + i] = values[i];
  }
}

}  // namespace delta
}  // namespace
}  // namespace billfish::cpu
