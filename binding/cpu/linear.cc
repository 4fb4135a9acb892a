// linear(): prepares the activation once for calls that share it, splits the outputs of their weights into pieces, and
// runs these on the pool. Every output is computed by one thread in one order: results do not depend on the number of
// threads.
//
//   few rows    GEMV: the weights stream through once for up to four rows; a piece is a tile of 16 outputs
//   many rows   GEMM: a piece is a panel of 64 outputs by a block of rows; 128 inputs of the panel at a time are
//               unpacked into the L1 cache and multiplied with all rows of the block
#include "cpu/linear.h"

#include <algorithm>
#include <array>
#include <string>
#include <typeinfo>

#include "cpu/linear_activation.h"
#include "cpu/linear_part.h"
#include "cpu/operators.h"
#include "engine/error.h"

namespace billfish::cpu {
namespace {

// Maximum calls of one parallel region: more than the linears that any layer has on one input.
constexpr int max_calls_together = 8;

// Runs calls that share a prepared activation in one parallel region.
void run_together(const LinearCall* calls, int count, const Rows& x, const Activation& activation, ThreadPool& pool) {
  std::array<LinearPart, max_calls_together> parts;
  std::array<int64_t, max_calls_together> first_pieces, last_pieces;  // among those of all calls
  const int64_t blocks = divide_up(x.rows, rows_of_block(x.rows));
  int64_t pieces = 0;
  for (int i = 0; i < count; ++i) {
    const LinearPart& part = parts[i] = make_part(calls[i], x.rows, activation);
    first_pieces[i] = pieces;
    pieces += part.gemv ? divide_up(part.outputs, tile_outputs) : part.panels * blocks;
    last_pieces[i] = pieces;
  }
  pool.parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int i = 0; i < count; ++i) {
      const int64_t first = std::max(begin, first_pieces[i]) - first_pieces[i];
      const int64_t last = std::min(end, last_pieces[i]) - first_pieces[i];
      if (first >= last) continue;
      if (parts[i].gemv) {
        run_gemv(parts[i], first, last);
      } else {
        run_gemm(parts[i], first, last);
      }
    }
  });
}

}  // namespace

size_t linear_scratch_bytes(const LinearCall& call, int64_t rows, Precision precision) {
  return activation_bytes(activation_for(call, rows, precision), rows);
}

void linear(const LinearCall* calls, int count, const Rows& x, Precision precision, const Scratch& scratch,
            ThreadPool& pool) {
  if (x.rows == 0) return;
  for (int first = 0, next; first < count; first = next) {
    Activation activation = activation_for(calls[first], x.rows, precision);
    for (next = first + 1; next < count && next - first < max_calls_together; ++next) {
      if (!activation.same_preparation(activation_for(calls[next], x.rows, precision))) break;
    }
    if (activation.in != x.columns) {
      throw Error("INTERNAL", "linear: x has " + std::to_string(x.columns) + " columns, the weight " +
                                  std::to_string(activation.in) + " inputs");
    }
    prepare(x, activation, scratch, pool);
    run_together(calls + first, next - first, x, activation, pool);
  }
}

void run(OperatorContext& context, const Call<billfish::Linear>& call) {
  context.linear_calls.clear();
  for (const Call<LinearTarget>& target : call.targets) {
    LinearCall& one = context.linear_calls.emplace_back();
    one.out = row_of(target.out, 0);
    one.stride = target.out.stride;
    const Weight& weight = *target.weight;
    if (typeid(weight) == typeid(QuantizedWeight)) {
      one.quantized = &static_cast<const QuantizedWeight&>(weight).linear;
    } else {
      one.matrix = &matrix_of(weight);
    }
  }
  linear(context.linear_calls.data(), static_cast<int>(context.linear_calls.size()), rows_of(call.x), context.precision,
         context.scratch, context.pool);
}

}  // namespace billfish::cpu
