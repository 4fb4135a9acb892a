#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

template <class Element>
struct Embed {
  Global<const Element> table;
  Global<const int32_t> tokens;
  Global<float> out;
  int64_t table_stride, out_stride;
  int64_t first, rows;  // tokens that have a row

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count];
    const int64_t token = int32_t{tokens[row]} - first;
    if (token >= 0 && token < rows) {
      load_floats<count, Element>(table + (token * table_stride + column), values);
    } else {
      for (float& value : values) value = 0;
    }
    store_floats<count, float>(out + (row * out_stride + column), values);
  }
};

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Embedding>& call) {
  const LinearWeight& table = linear_of(call.table);
  const Matrix<const Element> rows{reinterpret_cast<const Element*>(table.elements), table.out, table.in, table.stride};
  const Matrix<float> out = context.template matrix<float>(call.out);
  for_each_vector(
      context.stream, out.rows, out.columns, is_wide(rows) && is_wide(out),
      Embed<Element>{rows.data, context.batch->tokens(), out.data, rows.stride, out.stride, call.first, rows.rows});
}

BILLFISH_INSTANTIATE_RUN(Embedding);

}  // namespace billfish::BILLFISH_TARGET
