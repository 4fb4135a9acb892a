// Elementwise operators. Element: half or bfloat16.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// gate = silu(gate) * up, silu(g) = g / (1 + exp(-g)), in fp32 and rounded once.
template <class Element>
void silu_mul(Stream& stream, const Matrix<Element>& gate, const Matrix<const Element>& up);

// x += y.
template <class Element>
void add(Stream& stream, const Matrix<float>& x, const Matrix<const Element>& y);

// Qwen v1's log-n attention: row r is multiplied by log(p) / log(length) where its 1-based position p exceeds length.
// positions[r] is 0-based, in the device's memory.
template <class Element>
void log_n_scale(Stream& stream, const Matrix<Element>& x, const int32_t* positions, int32_t length);

// out[i] = x[rows[i]], of float, half or bfloat16. `rows` is in the device's memory and has out.rows entries.
template <class T>
void gather_rows(Stream& stream, const Matrix<const T>& x, const int32_t* rows, const Matrix<T>& out);

// out = x with another element type (float, half or bfloat16) or stride; the nearest representable number, and the
// largest finite one for a finite number beyond it (infinity and NaN stay what they are).
template <class From, class To>
void convert(Stream& stream, const Matrix<const From>& x, const Matrix<To>& out);

}  // namespace billfish::BILLFISH_TARGET
