#include "layer/tensor.h"

#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

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

}  // namespace

template <class From, class To>
void convert(Stream& stream, const Matrix<const From>& x, const Matrix<To>& out) {
  for_each_vector(stream, out.rows, out.columns, is_wide(x) && is_wide(out),
                  Convert<From, To>{x.data, out.data, x.stride, out.stride});
}

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
