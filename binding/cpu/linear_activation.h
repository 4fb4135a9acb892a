// The input of linear(), prepared for the calls that share it: in their act-order, as 16-bit integers, floats or pairs
// of bfloat16, and cut into segments. The rows of a segment are adjacent, [segment][row][input], so that a GEMM reads
// them as one stream: rows a power of two apart would map to the same cache sets.
//
// Activations as 16-bit integers, for Precision::fast:
//
// A segment is at most 128 inputs of one row that share a group of the weights. Its largest magnitude becomes code
// 32639, and every input code = round(x / scale), half to even, with scale = largest / 32639: half a step is largest /
// 65278, an eighth of fp16's rounding step at the largest input. Products of such codes and of weight codes without
// their zero point are summed exactly in 32 bits over a segment: 128 * 32639 * 255 < 2^31. 32639 is 127 * 256 + 127:
// such codes can be cut into two bytes with signs.
//
//   y[n] = sum over segments of  s_w[n] * s_x * sum over k of (code_w[n, k] - zero[n]) * code_x[k]
//
// Mean error of the outputs relative to their mean magnitude, int4 weights in groups of 128, normal activations (and
// with one in 500 made 50 times larger): 16-bit codes 2.5e-5 (8e-5), activations rounded to fp16 2.1e-4 (1.9e-4), 8-bit
// codes 6.5e-3 (2.1e-2). Eight bits would double the speed of a GEMM, but that error is 30 to 100 times fp16's own.
//
// Within eight inputs the codes are stored in the order 0 2 4 6 1 3 5 7 that quantized_linear.h explains, or, for few
// rows, as the GEMV takes them (byte_gemv_body.h). A segment
// whose magnitudes are all below 2^-100 counts as zero. A NaN or an infinity in a segment makes the scale NaN or
// infinite (and the codes zero), so that every output becomes NaN and the fault is visible.
//
// Activations as pairs of bfloat16, for Precision::fast, few rows and codes that are 8-bit floats, on processors that
// multiply such pairs: x = high + low, each rounded to nearest even. What is left out is at most 2^-18 of x, and the
// codes are bfloat16 numbers as they are. Four inputs lie in four words, which are two products of pairs each for high
// and low; the missing inputs of the last eight are zero:
//
//   word, bits    31      16 15       0
//   0             high(k+1)   high(k)
//   1             high(k+3)   high(k+2)
//   2, 3          low, alike
//
// An infinity has a NaN for its low half, so that it stays visible here, too.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/host_memory.h"
#include "cpu/kernels.h"
#include "cpu/linear.h"

namespace billfish::cpu {

// The number of rows up to which a GEMV is faster, since it does not unpack the weights.
constexpr int64_t quantized_gemv_rows = 4;

constexpr float largest_code = 32639.0f;
constexpr float smallest_quantized_magnitude = 0x1p-100f;
constexpr int position_in_eight[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// How the inputs of a segment become codes: code = round(x * inverse), all zero unless they are finite.
struct SegmentScale {
  bool finite;
  float inverse, scale;
};
// largest: the largest magnitude, a NaN ranking highest; largest_bits: its bits. Each source has its own copy, in the
// instructions that it may use.
static inline SegmentScale scale_of(uint32_t largest_bits, float largest) {
  const bool finite = largest_bits < 0x7f800000u;
  const bool zero = largest < smallest_quantized_magnitude;
  return {finite, finite && !zero ? largest_code / largest : 0.0f, zero ? 0.0f : largest / largest_code};
}

// Calls visit(segment, group, first, count) for the segments of a linear in order; count is not yet rounded up to 8.
template <class Visit>
void for_each_segment(int64_t in, int64_t group_size, Visit&& visit) {
  int64_t segment = 0, group = 0;
  for (int64_t group_first = 0; group_first < in; group_first += group_size, ++group) {
    const int64_t group_end = group_first + group_size < in ? group_first + group_size : in;
    for (int64_t first = group_first; first < group_end; first += segment_inputs, ++segment) {
      const int64_t count = group_end - first < segment_inputs ? group_end - first : segment_inputs;
      visit(segment, group, first, count);
    }
  }
}

struct Activation {
  enum class Form { floats, integers, pairs };
  // How it is prepared: calls that agree in these share it.
  Form form = Form::floats;
  int64_t in = 0;
  int64_t group_size = 0;          // of the segments
  const int32_t* order = nullptr;  // [in]; null: natural

  // One of these, as `form` says.
  const float* floats = nullptr;
  QuantizedActivations integers;
  const uint32_t* pairs = nullptr;

  bool same_preparation(const Activation& other) const;
};

// The activation of a call, still to be prepared. `rows`: at most as many meet a weight.
Activation activation_for(const LinearCall& call, int64_t rows, Precision precision);

// Bytes of scratch that prepare() takes for `rows` rows: as many for pairs as for floats, so that a plan need not know
// the processor.
size_t activation_bytes(const Activation& activation, int64_t rows);

// Prepares x in the scratch.
void prepare(const Rows& x, Activation& activation, const Scratch& scratch, ThreadPool& pool);

// Rows in runs that are prepared, and multiplied, each by itself: those of an expert.
class PreparedRuns {
 public:
  // Takes scratch for `rows` rows of all runs. `activation`: how they are prepared.
  PreparedRuns(const Activation& activation, int64_t rows, ScratchPieces& pieces);
  // Of the run of `rows` rows whose first one is number `first` of all.
  Activation run(int64_t first, int64_t rows) const;
  // Prepares row `row` of that run, in the order of its inputs: a run's own, instead of the activation's.
  void prepare(const float* values, int64_t first, int64_t rows, int64_t row, const int32_t* order) const;

 private:
  Activation activation_;
  int64_t segments_, padded_in_;
  int16_t* codes_ = nullptr;
  float* scales_ = nullptr;
  int32_t* sums_ = nullptr;
  float* floats_ = nullptr;
  uint32_t* pairs_ = nullptr;
};

}  // namespace billfish::cpu
