// The kernels in AVX2. What the instruction sets do alike is in *_body.h and row_kernels.h,
// written over the types Vector and Integers; here are these types and the rest.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/linear_activation.h"

namespace billfish::cpu {
namespace {

// Eight floats. kernels_avx512.cc documents the functions.
struct Vector {
  using Value = __m256;
  static constexpr int width = 8;
  static constexpr int gemm_rows = 6, gemm_vectors = 2;
  static constexpr int dot_queries = 2;

  static Value zero() { return _mm256_setzero_ps(); }
  static Value broadcast(float value) { return _mm256_set1_ps(value); }

  static Value load(const float* from) { return _mm256_loadu_ps(from); }
  static Value load(const float* from, int64_t count) { return _mm256_maskload_ps(from, lanes(count)); }
  static void store(float* to, Value value) { _mm256_storeu_ps(to, value); }
  static void store(float* to, Value value, int64_t count) { _mm256_maskstore_ps(to, lanes(count), value); }

  static Value load_f16(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Value load_f16(const uint16_t* from, int64_t count) { return _mm256_cvtph_ps(load_halves(from, count)); }
  static Value load_bf16(const uint16_t* from) {
    return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Value load_bf16(const uint16_t* from, int64_t count) { return widen_bf16(load_halves(from, count)); }

  static Value load_e4m3(const uint8_t* from) {
    const __m128i bytes = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(halves_of_e4m3(_mm256_castsi128_si256(_mm_slli_epi16(bytes, 8)))));
  }
  static Value load_e8m0(const uint8_t* from) {
    const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(codes, 23), _mm256_set1_epi32(0x00400000)));
  }
  static void load_e4m3(const uint8_t* from, Value* first, Value* second) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i even = halves_of_e4m3(_mm256_slli_epi16(pairs, 8)), odd = halves_of_e4m3(pairs);
    first[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(even));
    first[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(even, 1));
    second[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(odd));
    second[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(odd, 1));
  }

  static void store_f16(uint16_t* to, Value value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow_f16(value));
  }
  static void store_f16(uint16_t* to, Value value, int64_t count) { store_halves(to, narrow_f16(value), count); }
  static void store_bf16(uint16_t* to, Value value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow_bf16(value));
  }
  static void store_bf16(uint16_t* to, Value value, int64_t count) { store_halves(to, narrow_bf16(value), count); }

  static Value add(Value a, Value b) { return _mm256_add_ps(a, b); }
  static Value subtract(Value a, Value b) { return _mm256_sub_ps(a, b); }
  static Value multiply(Value a, Value b) { return _mm256_mul_ps(a, b); }
  static Value divide(Value a, Value b) { return _mm256_div_ps(a, b); }
  static Value multiply_add(Value a, Value b, Value c) { return _mm256_fmadd_ps(a, b, c); }
  static Value maximum(Value a, Value b) { return _mm256_max_ps(a, b); }
  static float first(Value value) { return _mm256_cvtss_f32(value); }
  static float sum(Value value) {
    const __m128 four = fold(value);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Value value) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static void sum4(Value a, Value b, Value c, Value d, float* to) {
    _mm_storeu_ps(to, fold(_mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d))));
  }

  static Value exp(Value x) {
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-89.0f), x));
    const Value whole = nearest(_mm256_mul_ps(x, _mm256_set1_ps(1.44269502e+00f)));
    Value part = _mm256_fmsub_ps(x, _mm256_set1_ps(1.44269502e+00f), whole);
    part = _mm256_fmadd_ps(x, _mm256_set1_ps(1.92596303e-08f), part);
    return scaled_exp2(part, whole);
  }
  static Value exp2(Value x) {
    x = _mm256_min_ps(_mm256_set1_ps(129.0f), _mm256_max_ps(_mm256_set1_ps(-129.0f), x));
    const Value whole = nearest(x);
    return scaled_exp2(_mm256_sub_ps(x, whole), whole);
  }

  static void keep_in_register(Value& value) { asm("" : "+x"(value)); }

  // Transposes an 8 x 8 matrix whose rows are v[0..7].
  static void transpose(Value* v) {
    Value t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    // 4x4 blocks: v[i + j] holds, in 128-bit lane L, column 4L + j of rows i..i+3.
    for (int i = 0; i < 8; i += 4) {
      v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int j = 0; j < 4; ++j) {
      t[j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x20);
      t[4 + j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x31);
    }
    for (int i = 0; i < 8; ++i) v[i] = t[i];
  }

 private:
  static __m256i lanes(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m128i load_halves(const uint16_t* from, int64_t count) {
    alignas(16) uint16_t halves[8] = {};
    for (int64_t i = 0; i < count; ++i) halves[i] = from[i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(halves));
  }
  static void store_halves(uint16_t* to, __m128i value, int64_t count) {
    alignas(16) uint16_t halves[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(halves), value);
    for (int64_t i = 0; i < count; ++i) to[i] = halves[i];
  }

  static __m256i halves_of_e4m3(__m256i upper_bytes) {
    return _mm256_and_si256(_mm256_srai_epi16(upper_bytes, 1), _mm256_set1_epi16(static_cast<short>(0xbf80)));
  }
  static Value widen_bf16(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  // Clamps to the limits; infinity becomes NaN. With a NaN operand max and min return the second one, so NaN passes
  // through; value - value is zero, which changes no bit, or NaN.
  static Value clamp(Value value, float limit) {
    const Value within = _mm256_min_ps(_mm256_set1_ps(limit), _mm256_max_ps(_mm256_set1_ps(-limit), value));
    return _mm256_or_ps(within, _mm256_sub_ps(value, value));
  }
  static __m128i narrow_f16(Value value) {
    return _mm256_cvtps_ph(clamp(value, 65504.0f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static __m128i narrow_bf16(Value value) {
    value = clamp(value, 3.38953139e38f);
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }

  static __m128 fold(Value value) { return _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1)); }

  static Value nearest(Value x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  static Value power_of_two(__m256i exponent) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
  }
  static Value scaled_exp2(Value part, Value whole) {
    Value p = _mm256_set1_ps(1.53533620e-04f);
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(1.33988739e-03f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(9.61843692e-03f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(5.55033237e-02f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(2.40226477e-01f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(6.93147182e-01f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(1.0f));
    // 2^whole in two factors: 2^128 is not a float, but 2^128 * 0.99 is. Lanes that are masked out below must not
    // become denormal on the way: those are slow.
    const __m256i exponent = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_set1_ps(-126.0f), whole));
    const __m256i half = _mm256_srai_epi32(exponent, 1);
    const Value scaled =
        _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(half)), power_of_two(_mm256_sub_epi32(exponent, half)));
    const Value normal = _mm256_cmp_ps(whole, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm256_and_ps(scaled, normal);
  }
};

// Eight 32-bit integers, or sixteen 16-bit ones.
struct Integers {
  using Value = __m256i;
  static constexpr int width = 8;

  static Value zero() { return _mm256_setzero_si256(); }
  static Value broadcast(int32_t value) { return _mm256_set1_epi32(value); }
  static Value load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void store(void* to, Value value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
  static Value load_bytes(const uint8_t* from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  static Vector::Value to_floats(Value value) { return _mm256_cvtepi32_ps(value); }
  static Value look_up(const uint8_t* table, Value indices) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))),
                               indices);
  }

  static Value bit_and(Value a, Value b) { return _mm256_and_si256(a, b); }
  static Value bit_or(Value a, Value b) { return _mm256_or_si256(a, b); }
  template <int count>
  static Value shift_right_16(Value value) {
    return _mm256_srli_epi16(value, count);
  }
  template <int count>
  static Value shift_left_32(Value value) {
    return _mm256_slli_epi32(value, count);
  }
  template <int count>
  static Value shift_right_32(Value value) {
    return _mm256_srli_epi32(value, count);
  }

  static Value subtract_16(Value a, Value b) { return _mm256_sub_epi16(a, b); }
  static Value add(Value a, Value b) { return _mm256_add_epi32(a, b); }
  static Value subtract(Value a, Value b) { return _mm256_sub_epi32(a, b); }
  static Value multiply(Value a, Value b) { return _mm256_mullo_epi32(a, b); }
  // vpmaddwd cannot saturate (no activation code is -32768), as the 8-bit vpmaddubsw could, and needs no more
  // instructions a product.
  static Value add_products(Value sum, Value a, Value b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

  static void keep_in_register(Value& value) { asm("" : "+x"(value)); }
};

}  // namespace
}  // namespace billfish::cpu

// They need the types above.
#include "cpu/attention_kernels_body.h"
#include "cpu/delta_rule_body.h"
#include "cpu/matrix_linear_body.h"
#include "cpu/quantized_linear_body.h"
// They need the one before.
#include "cpu/float_code_body.h"
#include "cpu/pair_gemv_body.h"

namespace billfish::cpu {
namespace {

// --- Activations to 16-bit integers.

namespace quantized {

// All ones in the lanes k .. k+7 below count.
__m256i lanes_below(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count < 8 ? static_cast<int>(count) : 8), lane);
}

uint32_t largest_lane(__m256i v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

int32_t sum_of_lanes(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

void quantize_segment(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // See the scalar version for why magnitudes are compared as integers.
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  __m256i magnitudes = _mm256_setzero_si256();
  for (int64_t k = 0; k < count; k += 8) {
    const __m256i bits = _mm256_maskload_epi32(reinterpret_cast<const int*>(x + k), lanes_below(count - k));
    magnitudes = _mm256_max_epu32(magnitudes, _mm256_and_si256(bits, magnitude_mask));
  }
  const uint32_t largest_bits = largest_lane(magnitudes);
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(largest_bits))));
  const SegmentScale segment = scale_of(largest_bits, largest);

  const __m256 factor = _mm256_set1_ps(segment.inverse);
  // Inputs 0 2 4 6 1 3 5 7, as bytes of eight 16-bit codes.
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  __m256i total = _mm256_setzero_si256();
  for (int64_t k = 0; k < count; k += 8) {
    const __m256i lanes = segment.finite ? lanes_below(count - k) : _mm256_setzero_si256();
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_maskload_ps(x + k, lanes), factor));
    total = _mm256_add_epi32(total, rounded);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + k), _mm_shuffle_epi8(narrow, order));
  }
  *scale = segment.scale;
  *sum = sum_of_lanes(total);
}

}  // namespace quantized

// --- Unquantized linears: the GEMV.

namespace matrix {

// Weight row n times rows first_row, first_row + 1, ... of x, in Chains sums of 8 lanes each, so that even a few rows
// hide the latency of the multiply-add: I / Chains is the row, I % Chains the sum.
template <DType Type, int Chains, int... I>
void dot(std::integer_sequence<int, I...>, const Matrix& weights, int64_t n, const float* x, int64_t x_rows,
         int64_t first_row, float* out, int64_t stride) {
  constexpr int rows = sizeof...(I) / Chains;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes<Type>;
  Value sums[sizeof...(I)];
  ((sums[I] = Vector::zero()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t count = smaller(segment_inputs, weights.in - first);
    const float* const segment = x + first * x_rows + first_row * count;
    const uint8_t* const w = data + first * element_bytes<Type>;
    int64_t k = 0;
    for (; k + 8 * Chains <= count; k += 8 * Chains) {
      ((sums[I] = Vector::multiply_add(Vector::load(segment + I / Chains * count + k + I % Chains * 8),
                                       load<Type>(w + (k + I % Chains * 8) * element_bytes<Type>), sums[I])),
       ...);
      (Vector::keep_in_register(sums[I]), ...);
      fetch_weights(w + k * element_bytes<Type>, 8 * Chains * element_bytes<Type>);
    }
    for (; k < count; k += 8) {
      const Value weight = load<Type>(w + k * element_bytes<Type>, count - k);
      for (int r = 0; r < rows; ++r) {
        const uint8_t* const values = reinterpret_cast<const uint8_t*>(segment + r * count + k);
        sums[r * Chains] = Vector::multiply_add(load<DType::f32>(values, count - k), weight, sums[r * Chains]);
      }
    }
  }
  const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
  for (int r = 0; r < rows; ++r) {
    Value sum = sums[r * Chains];
    for (int c = 1; c < Chains; ++c) sum = Vector::add(sum, sums[r * Chains + c]);
    out[(first_row + r) * stride + n] = Vector::sum(sum) + bias;
  }
}

template <DType Type, int Rows, int Chains>
void dot_rows(const Matrix& weights, int64_t n, const float* x, int64_t x_rows, int64_t first_row, float* out,
              int64_t stride) {
  dot<Type, Chains>(std::make_integer_sequence<int, Rows * Chains>{}, weights, n, x, x_rows, first_row, out, stride);
}

template <DType Type>
void gemv_typed(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride) {
  using Dot = void (*)(const Matrix&, int64_t, const float*, int64_t, int64_t, float*, int64_t);
  constexpr Dot dot_of[] = {nullptr, dot_rows<Type, 1, 8>, dot_rows<Type, 2, 4>, dot_rows<Type, 3, 2>,
                            dot_rows<Type, 4, 2>};
  constexpr int64_t rows_at_once = 4;
  for (int64_t n = first_output; n < last_output; ++n) {
    for (int64_t row = 0; row < rows; row += rows_at_once) {
      dot_of[smaller(rows_at_once, rows - row)](weights, n, x, rows, row, out, stride);
    }
  }
}

}  // namespace matrix
}  // namespace

const Kernels kernels_avx2 = BILLFISH_CPU_KERNELS;

}  // namespace billfish::cpu
#endif
