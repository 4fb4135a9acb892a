#include "layer/elementwise.h"

#include <cmath>

#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// 6 bytes per element.
template <class Element>
struct SiluMul {
  Global<Element> gate;
  Global<const Element> up;
  int64_t gate_stride, up_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float g[count], u[count];
    const Global<Element> at = gate + (row * gate_stride + column);
    load_floats<count, Element>(at, g);
    load_floats<count, Element>(up + (row * up_stride + column), u);
    // exp(-g) is infinity for g < -88.7, and the quotient then 0, as it should be.
    UNROLL for (int i = 0; i < count; ++i) g[i] = g[i] / (1.0f + exp(-g[i])) * u[i];
    store_floats<count, Element>(at, g);
  }
};

// 10 bytes per element.
template <class Element>
struct Add {
  Global<float> x;
  Global<const Element> y;
  int64_t x_stride, y_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float a[count], b[count];
    const Global<float> at = x + (row * x_stride + column);
    load_floats<count, float>(at, a);
    load_floats<count, Element>(y + (row * y_stride + column), b);
    UNROLL for (int i = 0; i < count; ++i) a[i] += b[i];
    store_floats<count, float>(at, a);
  }
};

template <class Element>
struct LogNScale {
  Global<Element> x;
  int64_t stride;
  Global<const int32_t> positions;
  int32_t length;
  float log_length;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const int32_t position = positions[row];
    if (position < length) return;
    const float factor = log(static_cast<float>(position + 1)) / log_length;
    float values[count];
    const Global<Element> at = x + (row * stride + column);
    load_floats<count, Element>(at, values);
    UNROLL for (int i = 0; i < count; ++i) values[i] *= factor;
    store_floats<count, Element>(at, values);
  }
};

template <class From, class To>
struct Convert {
  Global<const From> x;
  Global<To> out;
  int64_t x_stride, out_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count];
    load_floats<count, From>(x + (row * x_stride + column), values);
    UNROLL for (int i = 0; i < count; ++i) values[i] = saturated<To>(values[i]);
    store_floats<count, To>(out + (row * out_stride + column), values);
  }
};

template <class T>
struct GatherRows {
  Global<const T> x;
  Global<const int32_t> rows;
  Global<T> out;
  int64_t x_stride, out_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count];
    const int64_t from = int32_t{rows[row]};
    load_floats<count, T>(x + (from * x_stride + column), values);
    store_floats<count, T>(out + (row * out_stride + column), values);
  }
};

}  // namespace

template <class Element>
void silu_mul(Stream& stream, const Matrix<Element>& gate, const Matrix<const Element>& up) {
  for_each_vector(stream, gate.rows, gate.columns, is_wide(gate) && is_wide(up),
                  SiluMul<Element>{gate.data, up.data, gate.stride, up.stride});
}

template <class Element>
void add(Stream& stream, const Matrix<float>& x, const Matrix<const Element>& y) {
  for_each_vector(stream, x.rows, x.columns, is_wide(x) && is_wide(y),
                  Add<Element>{x.data, y.data, x.stride, y.stride});
}

template <class Element>
void log_n_scale(Stream& stream, const Matrix<Element>& x, const int32_t* positions, int32_t length) {
  for_each_vector(stream, x.rows, x.columns, is_wide(x),
                  LogNScale<Element>{x.data, x.stride, positions, length, std::log(static_cast<float>(length))});
}

template <class T>
void gather_rows(Stream& stream, const Matrix<const T>& x, const int32_t* rows, const Matrix<T>& out) {
  for_each_vector(stream, out.rows, out.columns, is_wide(x) && is_wide(out),
                  GatherRows<T>{x.data, rows, out.data, x.stride, out.stride});
}

template <class From, class To>
void convert(Stream& stream, const Matrix<const From>& x, const Matrix<To>& out) {
  for_each_vector(stream, out.rows, out.columns, is_wide(x) && is_wide(out),
                  Convert<From, To>{x.data, out.data, x.stride, out.stride});
}

template void silu_mul(Stream&, const Matrix<half>&, const Matrix<const half>&);
template void silu_mul(Stream&, const Matrix<bfloat16>&, const Matrix<const bfloat16>&);
template void add(Stream&, const Matrix<float>&, const Matrix<const half>&);
template void add(Stream&, const Matrix<float>&, const Matrix<const bfloat16>&);
template void log_n_scale(Stream&, const Matrix<half>&, const int32_t*, int32_t);
template void log_n_scale(Stream&, const Matrix<bfloat16>&, const int32_t*, int32_t);
template void gather_rows(Stream&, const Matrix<const float>&, const int32_t*, const Matrix<float>&);
template void gather_rows(Stream&, const Matrix<const half>&, const int32_t*, const Matrix<half>&);
template void gather_rows(Stream&, const Matrix<const bfloat16>&, const int32_t*, const Matrix<bfloat16>&);
template void convert(Stream&, const Matrix<const float>&, const Matrix<float>&);
template void convert(Stream&, const Matrix<const float>&, const Matrix<half>&);
template void convert(Stream&, const Matrix<const float>&, const Matrix<bfloat16>&);
template void convert(Stream&, const Matrix<const half>&, const Matrix<half>&);
template void convert(Stream&, const Matrix<const bfloat16>&, const Matrix<bfloat16>&);
template void convert(Stream&, const Matrix<const half>&, const Matrix<float>&);
template void convert(Stream&, const Matrix<const bfloat16>&, const Matrix<float>&);
template void convert(Stream&, const Matrix<const half>&, const Matrix<bfloat16>&);
template void convert(Stream&, const Matrix<const bfloat16>&, const Matrix<half>&);

}  // namespace billfish::BILLFISH_TARGET
