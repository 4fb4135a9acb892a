// The GEMV of 8-bit float codes as products of bfloat16 pairs: an e4m3 number is a bfloat16 one as it is, and an
// activation is the sum of two (linear_activation.h). That takes as many products as fp32 does, but half the work to
// decode: 64 weights take ten instructions, which is what sets the pace.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {
namespace float_pair {

// The bytes of the bfloat16 number of every code without its sign:  0 eeeeeeee mmmmmmm
struct Halves {
  alignas(64) uint8_t upper[128];
  alignas(64) uint8_t lower[128];
};

constexpr Halves halves_of_e4m3() {
  Halves halves{};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3;
    int bits = 0;
    if (code == 127) {
      bits = 0x7fc0;  // NaN
    } else if (exponent > 0) {
      bits = (exponent - 7 + 127) << 7 | (code & 7) << 4;  // the exponents' biases are 7 and 127
    } else if (code > 0) {
      const int top = code >= 4   ? 2
                      : code >= 2 ? 1
                                  : 0;  // subnormal, code * 2^-9: its highest bit becomes the hidden one
      bits = (top - 9 + 127) << 7 | (code << (7 - top) & 0x7f);
    }
    halves.upper[code] = static_cast<uint8_t>(bits >> 8);
    halves.lower[code] = static_cast<uint8_t>(bits & 0xff);
  }
  return halves;
}

constexpr Halves e4m3 = halves_of_e4m3();

// Four inputs of the 16 outputs of a tile: two products of pairs for each output.
struct Four {
  __m512i first, second;  // inputs k, k+1 and inputs k+2, k+3, as pairs in the lane of their output
};

constexpr int64_t four_bytes = 4 * tile_outputs;

class Decoder {
 public:
  Four operator()(__m512i codes) const {
    // Unpacking takes the lower or the upper eight bytes of every 16: they become those of either pair of inputs.
    codes = _mm512_permutexvar_epi64(order_, codes);
    const __m512i lower = _mm512_permutex2var_epi8(lower_[0], codes, lower_[1]);
    __m512i upper = _mm512_permutex2var_epi8(upper_[0], codes, upper_[1]);
    upper = _mm512_ternarylogic_epi32(upper, codes, sign_, 0xf8);  // upper | (codes & sign)
    return {_mm512_unpacklo_epi8(lower, upper), _mm512_unpackhi_epi8(lower, upper)};
  }

 private:
  const __m512i order_ = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i sign_ = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512i upper_[2] = {_mm512_load_si512(e4m3.upper), _mm512_load_si512(e4m3.upper + 64)};
  const __m512i lower_[2] = {_mm512_load_si512(e4m3.lower), _mm512_load_si512(e4m3.lower + 64)};
};

// Of 64 codes those of the first `inputs` of four, as the layout has them: bytes 2n + j of either half.
inline __m512i load_some(const uint8_t* codes, int64_t inputs) {
  constexpr __mmask64 one = 0x55555555, two = 0xffffffff;
  const __mmask64 mask = inputs <= 0   ? 0
                         : inputs == 1 ? one
                         : inputs == 2 ? two
                         : inputs == 3 ? two | one << 32
                                       : ~__mmask64{0};
  return _mm512_maskz_loadu_epi8(mask, codes);
}

inline __m512 add_products(__m512 sum, __m512i weights, uint32_t pair) {
  return _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, weights),
                          __builtin_bit_cast(__m512bh, _mm512_set1_epi32(static_cast<int>(pair))));
}

// Independent sums for every output: enough to hide the latency of a product behind decoding.
constexpr int chains_of(int rows) { return rows <= 2 ? 4 : 2; }

// Four inputs of every row; `Unit` counts those of a step. sums[chains * row + chain].
template <int Unit, int Chains, int... Row>
inline void add_four(std::integer_sequence<int, Row...>, const Four& four, const uint32_t* x, int64_t row_stride,
                     __m512* sums) {
  const auto add = [&](const uint32_t* words, __m512* of_row) {
    constexpr int first = 4 * Unit;
    of_row[first % Chains] = add_products(of_row[first % Chains], four.first, words[0]);
    of_row[(first + 1) % Chains] = add_products(of_row[(first + 1) % Chains], four.second, words[1]);
    of_row[(first + 2) % Chains] = add_products(of_row[(first + 2) % Chains], four.first, words[2]);
    of_row[(first + 3) % Chains] = add_products(of_row[(first + 3) % Chains], four.second, words[3]);
  };
  (add(x + Row * row_stride, sums + Row * Chains), ...);
}

// The scales of a tile's outputs.
inline __m512 load_scales(const QuantizedLinear& weights, int64_t tile, int64_t group) {
  const int64_t entry = (tile * weights.groups + group) * tile_outputs;
  if (weights.scale_type == DType::f32) return _mm512_loadu_ps(static_cast<const float*>(weights.scales) + entry);
  const __m256i halves =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(weights.scales) + entry));
  if (weights.scale_type == DType::f16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline void keep_in_register(__m512& value) { asm("" : "+v"(value)); }

// I counts the sums.
template <int Chains, int... Row, int... I>
void gemv_rows(std::integer_sequence<int, Row...> rows_of, std::integer_sequence<int, I...>,
               const QuantizedLinear& weights, const uint32_t* x, int64_t x_rows, int64_t first_row, int64_t first_tile,
               int64_t last_tile, float* out, int64_t stride) {
  const Decoder decode;
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    __m512 totals[sizeof...(Row)];
    ((totals[Row] = _mm512_setzero_ps()), ...);

    for_each_segment(weights.in, weights.group_size, [&](int64_t, int64_t group, int64_t first, int64_t inputs) {
      const int64_t padded = (inputs + 7) / 8 * 8;
      const uint32_t* const segment = x + first * x_rows + first_row * padded;
      const uint8_t* codes = weights.codes + (tile * weights.padded_in + first) * tile_outputs;
      __m512 sums[sizeof...(I)];
      ((sums[I] = _mm512_setzero_ps()), ...);
      int64_t k = 0;
      for (; k + 8 <= inputs; k += 8, codes += 2 * four_bytes) {
        fetch_weights(codes, 2 * four_bytes);
        add_four<0, Chains>(rows_of, decode(_mm512_loadu_si512(codes)), segment + k, padded, sums);
        add_four<1, Chains>(rows_of, decode(_mm512_loadu_si512(codes + four_bytes)), segment + k + 4, padded, sums);
        (keep_in_register(sums[I]), ...);
      }
      if (k < inputs) {  // codes of padding stand for any number, NaN included
        add_four<0, Chains>(rows_of, decode(load_some(codes, inputs - k)), segment + k, padded, sums);
        add_four<1, Chains>(rows_of, decode(load_some(codes + four_bytes, inputs - k - 4)), segment + k + 4, padded,
                            sums);
      }
      const __m512 scales = load_scales(weights, tile, group);
      const auto add_chains = [&](int row) {
        const __m512* const of_row = sums + row * Chains;
        __m512 sum = _mm512_add_ps(of_row[0], of_row[1]);
        if constexpr (Chains == 4) sum = _mm512_add_ps(sum, _mm512_add_ps(of_row[2], of_row[3]));
        totals[row] = _mm512_fmadd_ps(sum, scales, totals[row]);
      };
      (add_chains(Row), ...);
    });

    const int64_t first_output = tile * tile_outputs, left = weights.out - first_output;
    const __mmask16 lanes = static_cast<__mmask16>(left >= tile_outputs ? 0xffffu : (1u << left) - 1u);
    const __m512 bias = weights.bias != nullptr ? _mm512_loadu_ps(weights.bias + first_output) : _mm512_setzero_ps();
    ((_mm512_mask_storeu_ps(out + Row * stride + first_output, lanes, _mm512_add_ps(totals[Row], bias))), ...);
  }
}

template <int Rows>
void gemv_of(const QuantizedLinear& weights, const uint32_t* x, int64_t x_rows, int64_t first_row, int64_t first_tile,
             int64_t last_tile, float* out, int64_t stride) {
  gemv_rows<chains_of(Rows)>(std::make_integer_sequence<int, Rows>{},
                             std::make_integer_sequence<int, Rows * chains_of(Rows)>{}, weights, x, x_rows, first_row,
                             first_tile, last_tile, out, stride);
}

void gemv(const QuantizedLinear& weights, const uint32_t* x, int64_t x_rows, int64_t first_row, int rows,
          int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  static_assert(max_gemv_rows == 4);
  const auto run = rows == 1 ? gemv_of<1> : rows == 2 ? gemv_of<2> : rows == 3 ? gemv_of<3> : gemv_of<4>;
  run(weights, x, x_rows, first_row, first_tile, last_tile, out, stride);
}

void split_segment(const float* x, int64_t count, uint32_t* pairs) {
  const __m512i order = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);  // four of `high`, four of `low`, and so on
  const auto lanes_below = [](int64_t lanes) {
    return static_cast<__mmask16>(lanes >= 16 ? 0xffffu : (1u << lanes) - 1u);
  };
  const int64_t padded = (count + 7) / 8 * 8;
  for (int64_t k = 0; k < count; k += 16) {
    const __m512 values = _mm512_maskz_loadu_ps(lanes_below(count - k), x + k);
    const __m256i high = __builtin_bit_cast(__m256i, _mm512_cvtneps_pbh(values));
    const __m512 rounded = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    const __m256i low = __builtin_bit_cast(__m256i, _mm512_cvtneps_pbh(_mm512_sub_ps(values, rounded)));
    const __m512i words = _mm512_permutex2var_epi64(_mm512_castsi256_si512(high), order, _mm512_castsi256_si512(low));
    _mm512_mask_storeu_epi32(pairs + k, lanes_below(padded - k), words);
  }
}

}  // namespace float_pair
}  // namespace

const FloatPairKernels float_pair_kernels_avx512_bf16 = {float_pair::split_segment, float_pair::gemv};

}  // namespace billfish::cpu
#endif
