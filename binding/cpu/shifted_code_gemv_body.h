// The GEMV of 8-bit float codes in AVX2 for processors whose multiply-adds take subnormal numbers at full speed:
// kernels_avx2.cc includes it after float_code_body.h, whose GEMV the others run.
//
// Shifted by four bits, an e4m3 code is a bfloat16 number, whose exponent is 120 less than the code's own, as the
// biases are 7 and 127. Where the code is subnormal, so is this, and nothing is lost:
//
//   code             s eeee mmm
//   bfloat16   s 0000eeee mmm0000 = number * 2^-120
//
// 32 weights take 12 instructions; by way of fp16, they take 15, and on AMD's processors the four conversions among
// these take the time of eight. Activations are multiplied by 2^40 beforehand, so that products stay far from the
// smallest numbers of fp32, and scales by the rest of 2^120.
#pragma once
#include <cstdint>
#include <utility>

#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {
namespace shifted_code {

using float_code::chains_of, float_code::input_bytes;
using quantized::parts, quantized::smaller;

static_assert(parts == 2);
constexpr float activation_factor = 0x1p40f, scale_factor = 0x1p80f;

// The numbers of two inputs: [0] for the outputs 0, 2, ..., 14 of a tile, [1] for the outputs 1, 3, ..., 15.
inline void load(const uint8_t* codes, __m256* first, __m256* second) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  const auto numbers_of = [&](short factors, __m256* numbers) {
    // One of each two bytes, times 16.
    const __m256i shifted = _mm256_maddubs_epi16(_mm256_set1_epi16(factors), pairs);
    const __m256i halves = _mm256_and_si256(shifted, _mm256_set1_epi16(static_cast<short>(0x87f0)));
    numbers[0] = _mm256_castsi256_ps(_mm256_slli_epi32(halves, 16));
    numbers[1] = _mm256_castsi256_ps(_mm256_and_si256(halves, upper));
  };
  numbers_of(16, first);
  numbers_of(16 << 8, second);
}

// The scales of outputs 0, 2, ..., 14 or 1, 3, ..., 15.
inline void load_scales(const QuantizedLinear& weights, int64_t tile, int64_t group, __m256* scales) {
  const __m256 low = quantized::load_scales(weights, tile, 0, group);
  const __m256 high = quantized::load_scales(weights, tile, 1, group);
  const auto in_order = [](__m256 lanes) {
    constexpr int swap_inner = 0xd8;  // shuffles of 128-bit lanes leave two outputs of `low` and `high` by turns
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(lanes), swap_inner));
  };
  const __m256 factor = _mm256_set1_ps(scale_factor);
  scales[0] = _mm256_mul_ps(in_order(_mm256_shuffle_ps(low, high, 0x88)), factor);
  scales[1] = _mm256_mul_ps(in_order(_mm256_shuffle_ps(low, high, 0xdd)), factor);
}

// Adds the products of two inputs. I / parts is the row, I % parts which outputs: sums[chain * rows * parts + I].
template <int First, int Second, int... I>
inline void add_pair(std::integer_sequence<int, I...>, const uint8_t* codes, const float* x, __m256* sums) {
  constexpr int count = sizeof...(I);
  __m256 first[parts], second[parts];
  load(codes, first, second);
  ((sums[First * count + I] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + I / parts * segment_inputs), first[I % parts],
                                              sums[First * count + I])),
   ...);
  ((sums[Second * count + I] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + I / parts * segment_inputs + 1),
                                               second[I % parts], sums[Second * count + I])),
   ...);
}

// A segment of the activations, times their factor: [row][segment_inputs], with zeros up to a multiple of eight inputs.
template <int Rows>
inline void multiply_activations(const float* segment, int64_t inputs, float* to) {
  const __m256 factor = _mm256_set1_ps(activation_factor);
  for (int r = 0; r < Rows; ++r) {
    for (int64_t k = 0; k < inputs; k += 8) {
      _mm256_store_ps(to + r * segment_inputs + k,
                      _mm256_mul_ps(Vector::load(segment + r * inputs + k, smaller(8, inputs - k)), factor));
    }
  }
}

template <int Rows, int... I, int... S>
void gemv_rows(std::integer_sequence<int, I...> row_parts, std::integer_sequence<int, S...>,
               const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int64_t first_tile,
               int64_t last_tile, float* out, int64_t stride) {
  constexpr int count = sizeof...(I), chains = chains_of(Rows);
  static_assert(sizeof...(S) == chains * count);
  alignas(32) float activations[Rows * segment_inputs];
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    __m256 totals[count];
    ((totals[I] = _mm256_setzero_ps()), ...);

    for_each_segment(weights.in, weights.group_size, [&](int64_t, int64_t group, int64_t first, int64_t inputs) {
      multiply_activations<Rows>(x + first * x_rows + first_row * inputs, inputs, activations);
      const uint8_t* codes = weights.codes + (tile * weights.padded_in + first) * input_bytes;
      __m256 sums[chains * count];
      ((sums[S] = _mm256_setzero_ps()), ...);
      // To a multiple of eight: codes are padded, and always finite here.
      for (int64_t k = 0; k < inputs; k += 8, codes += 8 * input_bytes) {
        fetch_weights(codes, 8 * input_bytes);
        add_pair<0, 1 % chains>(row_parts, codes, activations + k, sums);
        add_pair<2 % chains, 3 % chains>(row_parts, codes + 2 * input_bytes, activations + k + 2, sums);
        add_pair<0, 1 % chains>(row_parts, codes + 4 * input_bytes, activations + k + 4, sums);
        add_pair<2 % chains, 3 % chains>(row_parts, codes + 6 * input_bytes, activations + k + 6, sums);
        (Vector::keep_in_register(sums[S]), ...);
      }
      for (int chain = 1; chain < chains; ++chain) {
        ((sums[I] = _mm256_add_ps(sums[I], sums[chain * count + I])), ...);
      }
      __m256 scales[parts];
      load_scales(weights, tile, group, scales);
      ((totals[I] = _mm256_fmadd_ps(sums[I], scales[I % parts], totals[I])), ...);
    });

    for (int r = 0; r < Rows; ++r) {
      // Outputs 0 1 2 3 | 8 9 10 11 and 4 5 6 7 | 12 13 14 15, and then in order.
      const __m256 low = _mm256_unpacklo_ps(totals[r * parts], totals[r * parts + 1]);
      const __m256 high = _mm256_unpackhi_ps(totals[r * parts], totals[r * parts + 1]);
      const __m256 outputs[parts] = {_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
      for (int part = 0; part < parts; ++part) {
        const int64_t first_output = tile * tile_outputs + part * Vector::width;
        const int64_t left = smaller(Vector::width, weights.out - first_output);
        if (left <= 0) break;
        const __m256 bias = weights.bias != nullptr ? Vector::load(weights.bias + first_output) : Vector::zero();
        Vector::store(out + r * stride + first_output, _mm256_add_ps(outputs[part], bias), left);
      }
    }
  }
}

template <int Rows>
void gemv_of(const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int64_t first_tile,
             int64_t last_tile, float* out, int64_t stride) {
  constexpr int count = Rows * parts;
  gemv_rows<Rows>(std::make_integer_sequence<int, count>{}, std::make_integer_sequence<int, chains_of(Rows) * count>{},
                  weights, x, x_rows, first_row, first_tile, last_tile, out, stride);
}

// Libraries compiled with -ffast-math make the thread that loads them, and those that it starts, take subnormal numbers
// for zeros: not here.
class SubnormalsAreNumbers {
 public:
  SubnormalsAreNumbers() : before_(_mm_getcsr()) {
    if ((before_ & zeros) != 0) _mm_setcsr(before_ & ~zeros);
  }
  ~SubnormalsAreNumbers() {
    if ((before_ & zeros) != 0) _mm_setcsr(before_);
  }
  SubnormalsAreNumbers(const SubnormalsAreNumbers&) = delete;
  SubnormalsAreNumbers& operator=(const SubnormalsAreNumbers&) = delete;

 private:
  static constexpr unsigned zeros = 1u << 6 | 1u << 15;  // those that are read, and those that are results
  const unsigned before_;
};

void gemv(const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int rows,
          int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  static_assert(max_gemv_rows == 4);
  // Of four rows the sums would not leave registers for the masks, and conversions hide behind the multiply-adds.
  const auto run = rows == 1 ? gemv_of<1> : rows == 2 ? gemv_of<2> : rows == 3 ? gemv_of<3> : float_code::gemv_of<4>;
  const SubnormalsAreNumbers guard;
  run(weights, x, x_rows, first_row, first_tile, last_tile, out, stride);
}

}  // namespace shifted_code
}  // namespace
}  // namespace billfish::cpu
