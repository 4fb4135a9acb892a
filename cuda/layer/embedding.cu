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

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count];
    const int64_t token = int32_t{tokens[row]};
    load_floats<count, Table>(table + (token * table_stride + column), values);
    store_floats<count, float>(out + (row * out_stride + column), values);
  }
};

}  // namespace

template <class Table>
void embedding(Stream& stream, const Matrix<const Table>& table, const int32_t* tokens, const Matrix<float>& out) {
  for_each_vector(stream, out.rows, out.columns, is_wide(table) && is_wide(out),
                  Embed<Table>{table.data, tokens, out.data, table.stride, out.stride});
}

template void embedding(Stream&, const Matrix<const float>&, const int32_t*, const Matrix<float>&);
template void embedding(Stream&, const Matrix<const half>&, const int32_t*, const Matrix<float>&);
template void embedding(Stream&, const Matrix<const bfloat16>&, const int32_t*, const Matrix<float>&);

}  // namespace billfish::BILLFISH_TARGET
