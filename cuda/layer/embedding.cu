#include "layer/embedding.h"

#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

template <class Table>
struct Embed {
  Global<const Table> table;
  Global<const int32_t> tokens;
  Global<float> out;
  int64_t table_stride, out_stride;
  int64_t first, rows;  // the tokens with a row in the table

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count];
    const int64_t token = int32_t{tokens[row]} - first;
    if (token >= 0 && token < rows) {
      load_floats<count, Table>(table + (token * table_stride + column), values);
    } else {
      for (float& value : values) value = 0;
    }
    store_floats<count, float>(out + (row * out_stride + column), values);
  }
};

}  // namespace

template <class Table>
void embedding(Stream& stream, const Matrix<const Table>& table, int64_t first, const int32_t* tokens,
               const Matrix<float>& out) {
  for_each_vector(stream, out.rows, out.columns, is_wide(table) && is_wide(out),
                  Embed<Table>{table.data, tokens, out.data, table.stride, out.stride, first, table.rows});
}

template void embedding(Stream&, const Matrix<const float>&, int64_t, const int32_t*, const Matrix<float>&);
template void embedding(Stream&, const Matrix<const half>&, int64_t, const int32_t*, const Matrix<float>&);
template void embedding(Stream&, const Matrix<const bfloat16>&, int64_t, const int32_t*, const Matrix<float>&);

}  // namespace billfish::BILLFISH_TARGET
