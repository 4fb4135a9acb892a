// linear(): prepares the activation once for all calls, cuts the outputs of all weights into pieces, and lets the pool
// run them. Every output is computed whole by one thread, in one order: results do not depend on the number of threads.
//
//   few rows    GEMV: the weights stream through once for up to four rows; a piece is a tile of 16 outputs
//   many rows   GEMM: a piece is a panel of 64 outputs by a block of rows; 128 inputs of the panel at a time are
//               unpacked into the first-level cache and multiplied with all rows of the block
#include "cpu/linear.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "cpu/linear_kernels.h"
#include "cpu/quantize_activation.h"
#include "cpu/quantized_linear.h"
#include "engine/error.h"

namespace billfish::cpu {
namespace {

// Up to so many rows a GEMV is faster: it saves unpacking the weights.
constexpr int64_t quantized_gemv_rows = 4;
constexpr int64_t matrix_gemv_rows = 16;
// Rows of a GEMM piece, a multiple of the six that a microkernel takes: their sums (32 KB) and, at usual widths, their
// activations stay in the second-level cache, and unpacking costs one or two per cent of multiplying.
constexpr int64_t block_rows = 126;
// Activations are prepared by several threads from this many elements on: fewer are done before a helper wakes up.
constexpr int64_t parallel_elements = 32 * 1024;

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Memory that only grows, aligned for vectors.
template <class T>
class GrowingBuffer {
 public:
  GrowingBuffer() = default;
  GrowingBuffer(const GrowingBuffer&) = delete;
  GrowingBuffer& operator=(const GrowingBuffer&) = delete;
  ~GrowingBuffer() { release(); }

  T* at_least(int64_t count) {
    if (count > capacity_) {
      release();
      data_ = static_cast<T*>(::operator new (static_cast<size_t>(count) * sizeof(T), std::align_val_t{64}));
      capacity_ = count;
    }
    return data_;
  }

 private:
  void release() {
    ::operator delete (data_, std::align_val_t{64});
    data_ = nullptr;
    capacity_ = 0;
  }

  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

// x as one or several of the calls want it: in their act-order, and as integers when `quantized`.
struct Activation {
  bool quantized = false;
  int64_t group_size = 0;  // of the segments
  const std::vector<int32_t>* order = nullptr;
  GrowingBuffer<int16_t> codes;
  GrowingBuffer<float> scales;
  GrowingBuffer<int32_t> sums;
  GrowingBuffer<float> gathered;
  QuantizedActivations integers;
  Rows floats;
};

enum class Kind { quantized_integers, quantized_floats, matrix };

// A call, and where its pieces lie among those of all calls.
struct Part {
  Kind kind = Kind::matrix;
  bool gemv = false;
  PackedWeights weights;
  MatrixWeights matrix;
  const Activation* activation = nullptr;
  const Rows* x = nullptr;  // floats: the activation's, or the caller's own
  float* out = nullptr;
  int64_t stride = 0;
  int64_t outputs = 0, panels = 0;
  int64_t first_piece = 0, last_piece = 0;
};

}  // namespace

class LinearScratch {
 public:
  std::vector<std::unique_ptr<Activation>> activations;
  std::vector<Part> parts;
};

namespace {

// Quantises one row; `order` may be null.
void quantize_row(const QuantizedLinearKernels& kernels, const float* x, int64_t in, int64_t row, Activation& to) {
  const int64_t rows = to.integers.rows;
  int16_t* const codes = const_cast<int16_t*>(to.integers.codes);
  float* const scales = const_cast<float*>(to.integers.scales);
  int32_t* const sums = const_cast<int32_t*>(to.integers.sums);
  for_each_segment(in, to.group_size, [&](int64_t segment, int64_t, int64_t first, int64_t count) {
    const float* from = x + first;
    float gathered[segment_inputs];
    if (to.order != nullptr) {
      for (int64_t k = 0; k < count; ++k) gathered[k] = x[(*to.order)[first + k]];
      from = gathered;
    }
    const int64_t padded = divide_up(count, 8) * 8, entry = segment * rows + row;
    kernels.quantize_segment(from, count, codes + first * rows + row * padded, scales + entry, sums + entry);
  });
}

void prepare(const Rows& x, Activation& to, ThreadPool& pool) {
  if (to.quantized) {
    int64_t segments = 0;
    for_each_segment(x.columns, to.group_size, [&](int64_t, int64_t, int64_t, int64_t) { ++segments; });
    to.integers.rows = x.rows;
    to.integers.codes = to.codes.at_least(x.rows * divide_up(x.columns, 8) * 8);
    to.integers.scales = to.scales.at_least(x.rows * segments);
    to.integers.sums = to.sums.at_least(x.rows * segments);
  } else {
    to.floats = {to.gathered.at_least(x.rows * x.columns), x.rows, x.columns, x.columns};
  }
  const QuantizedLinearKernels& kernels = quantized_linear_kernels();
  const auto prepare_rows = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const row = x.data + r * x.stride;
      if (to.quantized) {
        quantize_row(kernels, row, x.columns, r, to);
      } else {
        float* const gathered = const_cast<float*>(to.floats.data) + r * x.columns;
        for (int64_t k = 0; k < x.columns; ++k) gathered[k] = row[(*to.order)[k]];
      }
    }
  };
  if (x.rows * x.columns < parallel_elements) {
    prepare_rows(0, x.rows);
  } else {
    pool.parallel_for(x.rows, std::max<int64_t>(1, parallel_elements / 4 / x.columns), prepare_rows);
  }
}

// The activations prepared so far in this linear(); `used` of scratch.activations are.
const Activation* find_or_prepare(const QuantizedLinear& linear, bool quantized, const Rows& x, LinearScratch& scratch,
                                  size_t& used, ThreadPool& pool) {
  const std::vector<int32_t>* const order = linear.order.empty() ? nullptr : &linear.order;
  // Groups that whole segments fill, and a single group, are cut alike.
  const bool whole_segments = linear.group_size % segment_inputs == 0 || linear.group_size == linear.in;
  const int64_t group_size = whole_segments ? segment_inputs : linear.group_size;
  for (size_t i = 0; i < used; ++i) {
    const Activation& known = *scratch.activations[i];
    const bool same_order =
        (known.order == nullptr) == (order == nullptr) && (order == nullptr || *known.order == *order);
    if (known.quantized == quantized && same_order && (!quantized || known.group_size == group_size)) return &known;
  }
  if (used == scratch.activations.size()) scratch.activations.push_back(std::make_unique<Activation>());
  Activation& activation = *scratch.activations[used++];
  activation.quantized = quantized;
  activation.group_size = group_size;
  activation.order = order;
  prepare(x, activation, pool);
  return &activation;
}

void write_block(const Part& part, const float* bias, int64_t first_output, int64_t first_row, int64_t rows,
                 const float* sums) {
  const int64_t outputs = std::min(panel_outputs, part.outputs - first_output);
  for (int64_t r = 0; r < rows; ++r) {
    float* const to = part.out + (first_row + r) * part.stride + first_output;
    const float* const from = sums + r * panel_outputs;
    if (bias == nullptr) {
      std::memcpy(to, from, outputs * sizeof(float));
    } else {
      for (int64_t n = 0; n < outputs; ++n) to[n] = from[n] + bias[first_output + n];
    }
  }
}

// One piece of a GEMM: rows [first_row, first_row + rows) by the outputs of one panel.
void multiply_block(const Part& part, int64_t panel_index, int64_t first_row, int64_t rows) {
  alignas(64) float sums[block_rows * panel_outputs];
  std::memset(sums, 0, sizeof(float) * rows * panel_outputs);
  const int64_t first_output = panel_index * panel_outputs, first_tile = panel_index * panel_tiles;
  const bool partial = part.outputs - first_output <= panel_outputs - tile_outputs;

  if (part.kind == Kind::quantized_integers) {
    const QuantizedLinearKernels& kernels = quantized_linear_kernels();
    const QuantizedActivations& x = part.activation->integers;
    alignas(64) int16_t panel[segment_inputs * panel_outputs];
    alignas(64) float scales[panel_outputs];
    if (partial) {
      std::memset(panel, 0, sizeof panel);
      std::memset(scales, 0, sizeof scales);
    }
    for_each_segment(part.weights.in, part.weights.group_size,
                     [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
                       const int64_t padded = divide_up(count, 8) * 8;
                       kernels.unpack_integers(part.weights, first_tile, first, padded, panel);
                       kernels.unpack_scales(part.weights, first_tile, group, scales);
                       kernels.multiply_integers(panel, scales, padded, x.codes + first * x.rows + first_row * padded,
                                                 x.scales + segment * x.rows + first_row, rows, sums);
                     });
    write_block(part, part.weights.bias, first_output, first_row, rows, sums);
    return;
  }

  const MatrixKernels& kernels = matrix_kernels();
  const float* const x = part.x->data + first_row * part.x->stride;
  alignas(64) float panel[segment_inputs * panel_outputs];
  if (partial) std::memset(panel, 0, sizeof panel);
  if (part.kind == Kind::quantized_floats) {
    const QuantizedLinearKernels& quantized_kernels = quantized_linear_kernels();
    for_each_segment(part.weights.in, part.weights.group_size, [&](int64_t, int64_t, int64_t first, int64_t count) {
      quantized_kernels.dequantize(part.weights, first_tile, first, count, panel);
      kernels.multiply_floats(panel, count, x + first, part.x->stride, rows, sums);
    });
    write_block(part, part.weights.bias, first_output, first_row, rows, sums);
  } else {
    for (int64_t first = 0; first < part.matrix.in; first += segment_inputs) {
      const int64_t count = std::min(segment_inputs, part.matrix.in - first);
      kernels.transpose(part.matrix, first_output, first, count, panel);
      kernels.multiply_floats(panel, count, x + first, part.x->stride, rows, sums);
    }
    write_block(part, part.matrix.bias, first_output, first_row, rows, sums);
  }
}

// Tiles [first_tile, last_tile) for all rows.
void run_gemv(const Part& part, int64_t rows, int64_t first_tile, int64_t last_tile) {
  if (part.kind == Kind::matrix) {
    matrix_kernels().gemv(part.matrix, part.x->data, part.x->stride, rows, first_tile * tile_outputs,
                          std::min(last_tile * tile_outputs, part.outputs), part.out, part.stride);
    return;
  }
  for (int64_t row = 0; row < rows; row += max_gemv_rows) {
    const int now = static_cast<int>(std::min<int64_t>(max_gemv_rows, rows - row));
    quantized_linear_kernels().gemv(part.weights, part.activation->integers, row, now, first_tile, last_tile,
                                    part.out + row * part.stride, part.stride);
  }
}

// Blocks of rows as even as multiples of six allow.
int64_t rows_of_block(int64_t rows) {
  const int64_t blocks = divide_up(rows, block_rows);
  return std::min(block_rows, divide_up(divide_up(rows, blocks), 6) * 6);
}

void run_pieces(const Part& part, int64_t rows, int64_t first, int64_t last) {
  if (part.gemv) {
    run_gemv(part, rows, first, last);
    return;
  }
  const int64_t block = rows_of_block(rows);
  for (int64_t piece = first; piece < last; ++piece) {
    const int64_t first_row = piece / part.panels * block;
    multiply_block(part, piece % part.panels, first_row, std::min(block, rows - first_row));
  }
}

Part make_part(const LinearCall& call, const Rows& x, Precision precision, LinearScratch& scratch, size_t& used,
               ThreadPool& pool) {
  Part part;
  part.out = call.out;
  part.stride = call.stride;
  const int64_t in = call.matrix != nullptr ? call.matrix->in : call.quantized->in;
  if (in != x.columns) {
    throw Error("INTERNAL", "linear: x has " + std::to_string(x.columns) + " columns, the weight " +
                                std::to_string(in) + " inputs");
  }
  if (call.matrix != nullptr) {
    part.kind = Kind::matrix;
    part.matrix = {call.matrix->type, call.matrix->out, call.matrix->in, call.matrix->data, call.matrix->bias};
    part.outputs = call.matrix->out;
    part.x = &x;
    part.gemv = x.rows <= matrix_gemv_rows;
  } else {
    const bool integers = precision == Precision::fast;
    part.kind = integers ? Kind::quantized_integers : Kind::quantized_floats;
    part.weights = packed_weights(*call.quantized);
    part.outputs = call.quantized->out;
    if (integers || !call.quantized->order.empty()) {
      part.activation = find_or_prepare(*call.quantized, integers, x, scratch, used, pool);
      part.x = &part.activation->floats;
    } else {
      part.x = &x;
    }
    part.gemv = integers && x.rows <= quantized_gemv_rows;
  }
  part.panels = divide_up(part.outputs, panel_outputs);
  return part;
}

}  // namespace

std::unique_ptr<LinearScratch, void (*)(LinearScratch*)> make_linear_scratch() {
  return {new LinearScratch, [](LinearScratch* scratch) { delete scratch; }};
}

void linear(const LinearCall* calls, int count, const Rows& x, Precision precision, LinearScratch& scratch,
            ThreadPool& pool) {
  if (x.rows == 0) return;
  std::vector<Part>& parts = scratch.parts;
  parts.clear();
  size_t used = 0;
  int64_t pieces = 0;
  for (int i = 0; i < count; ++i) {
    Part part = make_part(calls[i], x, precision, scratch, used, pool);
    part.first_piece = pieces;
    pieces +=
        part.gemv ? divide_up(part.outputs, tile_outputs) : part.panels * divide_up(x.rows, rows_of_block(x.rows));
    part.last_piece = pieces;
    parts.push_back(part);
  }
  pool.parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (const Part& part : parts) {
      const int64_t first = std::max(begin, part.first_piece), last = std::min(end, part.last_piece);
      if (first < last) run_pieces(part, x.rows, first - part.first_piece, last - part.first_piece);
    }
  });
}

const QuantizedLinearKernels& quantized_linear_kernels() {
#if defined(__x86_64__)
  if (instruction_set() == InstructionSet::avx512) return quantized_linear_avx512;
  if (instruction_set() == InstructionSet::avx2) return quantized_linear_avx2;
#endif
  return quantized_linear_scalar;
}

const MatrixKernels& matrix_kernels() {
#if defined(__x86_64__)
  if (instruction_set() == InstructionSet::avx512) return matrix_avx512;
  if (instruction_set() == InstructionSet::avx2) return matrix_avx2;
#endif
  return matrix_scalar;
}

}  // namespace billfish::cpu
