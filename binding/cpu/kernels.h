// The instruction sets, and the kernels that each implements: the inner loops of linear(), attention() and the row-wise
// operators, which split the work and call them.
//
// kernels_avx*.cc, which are compiled for wider instruction sets, see only the plain structs
// below and call no inline function of another header: the linker might keep their copy of it, which an older processor
// cannot run.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/row_kernels.h"
#include "engine/code_type.h"
#include "engine/dtype.h"

namespace billfish::cpu {

// --- Instruction sets.

// Each level includes the previous ones. avx2 = AVX2 + FMA + F16C; avx512 = F, BW, VL, DQ, VNNI (Cascade Lake and
// later); avx512_bf16 = BF16 and VBMI (Sapphire Rapids, Zen 4 and later).
enum class InstructionSet { scalar = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3 };
constexpr InstructionSet all_instruction_sets[] = {InstructionSet::scalar, InstructionSet::avx2, InstructionSet::avx512,
                                                   InstructionSet::avx512_bf16};

// The best one that this processor and operating system support.
InstructionSet best_instruction_set();

// The one in use: the best, or the one named by BILLFISH_CPU_ISA, by its name above, if supported. set_instruction_set
// is for tests and benchmarks; it clamps to the best and returns the one now in use.
InstructionSet instruction_set();
InstructionSet set_instruction_set(InstructionSet wanted);
const char* name(InstructionSet set);

// Whether multiply-adds take subnormal numbers at full speed: AMD's do, others may take a hundred cycles. The setter is
// for tests, which thus run the kernels of other processors; it returns what was set before.
bool has_fast_subnormals();
bool set_fast_subnormals(bool fast);

// --- Linears.

// Outputs that a packed tile holds, and inputs that are summed as integers before a scale is applied.
constexpr int64_t tile_outputs = 16;
constexpr int64_t segment_inputs = 128;
// Outputs of a panel: the weights that a GEMM unpacks at once into the first-level cache.
constexpr int64_t panel_tiles = 4;
constexpr int64_t panel_outputs = panel_tiles * tile_outputs;
// A GEMV fetches its weights that many bytes ahead into the second-level cache, and from there into the first: left to
// the hardware, one core reads at three quarters of the speed, and as much ahead in the first level would push out the
// activations.
constexpr int64_t fetch_ahead = 8192, fetch_ahead_to_first_level = 2048;
// Fetches `bytes` of weights ahead of these. Each source has its own copy, in the instructions that it may use.
static inline void fetch_weights(const uint8_t* weights, int64_t bytes) {
  constexpr int first_level = 3, second_level = 2;
  for (int64_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(weights + fetch_ahead + line, 0, second_level);
    __builtin_prefetch(weights + fetch_ahead_to_first_level + line, 0, first_level);
  }
}
// Rows of x that one pass of a quantized GEMV serves, and of a matrix's.
constexpr int max_gemv_rows = 4;
constexpr int64_t max_matrix_gemv_rows = 16;

// A quantized linear in the packed layout that quantized_linear.h draws.
struct QuantizedLinear {
  int bits = 4;
  CodeType type = CodeType::integer;
  DType scale_type = DType::f16;
  int64_t out = 0, in = 0, group_size = 0;
  int64_t groups = 0, padded_in = 0;
  uint8_t* codes = nullptr;  // pointers into one 64-byte aligned block of packed_bytes(shape), not owned
  void* scales = nullptr;
  uint8_t* zeros = nullptr;        // null: the zero point is 2^(bits-1) everywhere
  float* output_scales = nullptr;  // null: 1 everywhere
  float* bias = nullptr;
  const int32_t* order = nullptr;  // act-order gather of the inputs [in], null when natural
};

// Activations as 16-bit integers; linear_activation.h explains them.
struct QuantizedActivations {
  int64_t rows = 0;
  const int16_t* codes = nullptr;  // [segment][row][inputs of the segment, rounded up to 8]; arranged if for a GEMV
  const float* scales = nullptr;   // [segment][row]
  const int32_t* sums = nullptr;   // [segment][row], of the codes
};

// A row-major matrix of weights in the checkpoint's type, [out][in]: unquantized linears, the embedding, the head.
struct Matrix {
  DType type = DType::f16;  // f32, f16 or bf16
  int64_t out = 0, in = 0;
  const void* data = nullptr;   // [out][in], 64-byte aligned, not owned
  const float* bias = nullptr;  // [out] or null, not owned
};

// Kernels of integers take e2m1 codes as the whole numbers 2 * number + 12, whose zero point is 12 and whose scale is
// half that of the numbers: by code.
constexpr uint8_t e2m1_integers[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
constexpr int e2m1_zero = 12;

struct QuantizedLinearKernels {
  // One segment of one row: x [count] -> codes [count rounded up to 8], their scale and their sum.
  void (*quantize_segment)(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum);

  // Rearranges the codes of a segment, a multiple of 8, in place, as gemv takes them. Null where it takes them as they
  // are.
  void (*arrange_for_gemv)(int16_t* codes, int64_t count);
  // out[r * stride + n] = row first_row + r of x times weight row n, for the outputs n of tiles [first_tile, last_tile)
  // and r < rows <= max_gemv_rows.
  void (*gemv)(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int rows,
               int64_t first_tile, int64_t last_tile, float* out, int64_t stride);

  // A panel is tiles [first_tile, min(first_tile + panel_tiles, tiles of the weights)); outputs beyond the last are not
  // touched.
  //
  // Inputs [first, first + count) of a panel as 16-bit code - zero, in pairs of inputs as the activations have them:
  // panel[pair][panel_outputs][2]. first is a multiple of 8; always writes multiples of eight.
  void (*unpack_integers)(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count,
                          int16_t* panel);
  // The scales of `group`, as floats: scales[panel_outputs].
  void (*unpack_scales)(const QuantizedLinear& weights, int64_t first_tile, int64_t group, float* scales);
  // sums[r][n] += float(sum over k of codes[r * count + k] * panel[k][n]) * (x_scales[r] * scales[n]), n <
  // panel_outputs. count is a multiple of 8.
  void (*multiply_integers)(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                            const float* x_scales, int64_t rows, float* sums);
  // Inputs [first, first + count) of a panel as scale * (code - zero): panel[count][panel_outputs]. first is a multiple
  // of 8; always writes multiples of eight.
  void (*dequantize)(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel);
};

// Of weights whose codes are 8-bit floats: QuantizedLinear::type is e4m3. x is in fp32.
struct FloatCodeKernels {
  // out[r * stride + n] = row first_row + r of x times weight row n, for the outputs n of tiles [first_tile, last_tile)
  // and r < rows <= max_gemv_rows. x is cut in segments: [segment][row of x_rows][input].
  void (*gemv)(const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int rows,
               int64_t first_tile, int64_t last_tile, float* out, int64_t stride);
  // As QuantizedLinearKernels::dequantize.
  void (*dequantize)(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel);
};

// Of the same weights, for few rows and Precision::fast: x is in pairs of bfloat16, which linear_activation.h explains.
struct FloatPairKernels {
  // One segment of one row: x [count] -> pairs [count rounded up to 8].
  void (*split_segment)(const float* x, int64_t count, uint32_t* pairs);
  // As FloatCodeKernels::gemv; x is [segment][row of x_rows][inputs of the segment, rounded up to 8].
  void (*gemv)(const QuantizedLinear& weights, const uint32_t* x, int64_t x_rows, int64_t first_row, int rows,
               int64_t first_tile, int64_t last_tile, float* out, int64_t stride);
};

struct MatrixKernels {
  // out[r * stride + n] = row r of x times weight row n, for n in [first_output, last_output) and r < rows <=
  // max_matrix_gemv_rows. x is cut in segments: [segment of segment_inputs][row][input].
  void (*gemv)(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
               float* out, int64_t stride);
  // Inputs [first, first + count) of outputs [first_output, first_output + panel_outputs) as
  // panel[count][panel_outputs]. Outputs beyond the last are not touched. Always writes multiples of sixteen inputs.
  void (*transpose)(const Matrix& weights, int64_t first_output, int64_t first, int64_t count, float* panel);
  // sums[r][n] += sum over k < count of x[r * stride + k] * panel[k][n], n < panel_outputs.
  void (*multiply_floats)(const float* panel, int64_t count, const float* x, int64_t stride, int64_t rows, float* sums);
};

// --- Attention.

// One task of attention: a few query rows of one sequence, the query heads of one kv head, and a range of its keys.
//
// Query m is head m % group of row m / group, at position first_position + m / group. It sees key j if first_key <= j <
// last_key, j <= its position, and (with a window) j > its position - window.
struct AttentionTask {
  const float* q = nullptr;  // [queries][padded_dim], multiplied by scale * log2(e)
  int queries = 0, group = 0;
  int head_dim = 0;
  int padded_dim = 0;  // head_dim rounded up to a multiple of 16
  int first_position = 0, window = 0;
  int first_key = 0, last_key = 0;

  DType type = DType::f32;
  const char* k = nullptr;  // the rows of this kv head in cache block 0
  const char* v = nullptr;
  size_t block_bytes = 0;  // from there to the same rows in the next block
  const int32_t* blocks = nullptr;
  int block_size = 0;

  // out[m] = sum over keys of 2^(score - maximum[m]) * v, sum[m] = the same without v. A query that sees no key of the
  // range has maximum -infinity and zeros.
  float* out = nullptr;  // [queries][padded_dim]
  float* maximum = nullptr;
  float* sum = nullptr;
  float* workspace = nullptr;  // attention_workspace(queries, padded_dim) floats, 64-byte aligned
};

// Keys are taken in tiles of this many.
constexpr int key_tile = 64;

constexpr size_t attention_workspace(int queries, int padded_dim) {
  return static_cast<size_t>(queries) * (key_tile + 1) + 2 * static_cast<size_t>(key_tile) * padded_dim;
}

using AttentionKernel = void (*)(const AttentionTask& task);

// --- The gated delta rule (engine/operators.h).

// Columns of a head's state that one task takes through a sequence's tokens.
constexpr int64_t state_columns = 16;

// What a token's gates make of the head's state, and the factors that normalize its k and q.
struct DeltaGates {
  float decay, beta;
};
struct DeltaNorms {
  float k, q;
};

struct DeltaTask {
  int64_t tokens = 0, key_dim = 0;
  int64_t columns = 0;       // at most state_columns
  const float* q = nullptr;  // [tokens][key_dim], rows `q_stride` apart, and so on
  int64_t q_stride = 0;
  const float* k = nullptr;
  int64_t k_stride = 0;
  const float* v = nullptr;  // [tokens][columns]
  int64_t v_stride = 0;
  const DeltaGates* gates = nullptr;
  int64_t gates_stride = 0;
  const DeltaNorms* norms = nullptr;
  int64_t norms_stride = 0;
  float* state = nullptr;  // [key_dim][state_columns]; columns beyond the last are zero
  int64_t state_stride = 0;
  float* out = nullptr;  // [tokens][columns]
  int64_t out_stride = 0;
};

using DeltaRuleKernel = void (*)(const DeltaTask& task);

// --- The table of each instruction set: kernels_scalar.cc, kernels_avx2.cc and kernels_avx512.cc. avx512_bf16 has
// avx512's and the kernels that it adds; with AVX2 and fast subnormals the GEMV of float codes is another.

struct Kernels {
  AttentionKernel attention;
  RowKernels rows;
  QuantizedLinearKernels quantized_linear;
  FloatCodeKernels float_code;
  MatrixKernels matrix;
  DeltaRuleKernel delta_rule;
};

// The table of an instruction set, by the names that all three sources give their functions.
#define BILLFISH_CPU_KERNELS                                                                                          \
  {                                                                                                                   \
    attention::run_attention, RowLoops<Vector>::kernels,                                                              \
        {quantized::quantize_segment, quantized::arrange_for_gemv,  quantized::gemv,      quantized::unpack_integers, \
         quantized::unpack_scales,    quantized::multiply_integers, quantized::dequantize},                           \
        {float_code::gemv, float_code::dequantize}, {matrix::gemv, matrix::transpose, matrix::multiply_floats},       \
        delta::run,                                                                                                   \
  }

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
extern const FloatCodeKernels float_code_kernels_avx2_subnormals;
extern const FloatPairKernels float_pair_kernels_avx512_bf16;
#endif

// Those of the instruction set in use.
AttentionKernel attention_kernel();
const QuantizedLinearKernels& quantized_linear_kernels();
const FloatCodeKernels& float_code_kernels();
const FloatPairKernels* float_pair_kernels();  // null below avx512_bf16
const MatrixKernels& matrix_kernels();
DeltaRuleKernel delta_rule_kernel();

}  // namespace billfish::cpu
