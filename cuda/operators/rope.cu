#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// 4 bytes an element, and the table, which the heads of a row share in the L1 cache.
template <class Element>
struct Rotate {
  Global<Element> x;
  int64_t stride;
  Global<const float> table;
  uint32_t half_columns, head_dim;

  // `pair`: of the row's heads * half pairs, head by head.
  template <int count>
  DEVICE void apply(int64_t row, int64_t pair) const {
    const uint32_t head = static_cast<uint32_t>(pair) / half_columns, i = static_cast<uint32_t>(pair) % half_columns;
    const Global<Element> first = x + (row * stride + head * head_dim + i), second = first + half_columns;
    const Global<const float> cosine = table + (row * 2 * half_columns + i);
    float x1[count], x2[count], c[count], s[count];
    load_floats<count, Element>(first, x1);
    load_floats<count, Element>(second, x2);
    load_floats<count, float>(cosine, c);
    load_floats<count, float>(cosine + half_columns, s);
    UNROLL for (int j = 0; j < count; ++j) {
      const float rotated = x1[j] * c[j] - x2[j] * s[j];
      x2[j] = x2[j] * c[j] + x1[j] * s[j];
      x1[j] = rotated;
    }
    store_floats<count, Element>(first, x1);
    store_floats<count, Element>(second, x2);
  }
};

}  // namespace

// The angles are those that begin() computed for the batch (layer/batch.h).
template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Rope>& call) {
  const Matrix<Element> x = context.template matrix<Element>(call.x);
  const Matrix<const float> table = context.batch->rope_table(call.rope);
  const int64_t half = table.columns / 2;
  for_each_vector(
      context.stream, x.rows, call.heads * half, is_wide(x) && half % wide == 0 && call.head_dim % wide == 0,
      Rotate<Element>{x.data, x.stride, table.data, static_cast<uint32_t>(half), static_cast<uint32_t>(call.head_dim)});
}

BILLFISH_INSTANTIATE_RUN(Rope);

}  // namespace billfish::BILLFISH_TARGET
