#include "layer/batch.h"

#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

struct RopeTable {
  Global<const int32_t> positions, row_sequence;
  Global<const DeviceSpan> spans;
  Global<const float> own_frequencies, frequencies;
  float scale;
  Global<float> table;
  int64_t half_columns;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const int32_t position = positions[row], sequence = row_sequence[row];
    Global<const float> from = own_frequencies;
    if (sequence >= 0) {
      const DeviceSpan span = spans[sequence];
      if (span.frequencies > 0) from = frequencies + (span.frequencies - 1) * half_columns;
    }
    float cosines[count], sines[count];
    load_floats<count, float>(from + column, cosines);
    // The accurate functions: angles go up to the position itself, a million and more.
    UNROLL for (int i = 0; i < count; ++i) {
      const float angle = static_cast<float>(position) * cosines[i];
      cosines[i] = cos(angle) * scale;
      sines[i] = sin(angle) * scale;
    }
    store_floats<count, float>(table + (row * 2 * half_columns + column), cosines);
    store_floats<count, float>(table + ((row * 2 + 1) * half_columns + column), sines);
  }
};

}  // namespace

void compute_rope_table(Stream& stream, const RopeTableInput& input, const Matrix<float>& table) {
  const int64_t half = table.columns / 2;
  for_each_vector(stream, table.rows, half, half % wide == 0,
                  RopeTable{input.positions, input.row_sequence, input.spans, input.own_frequencies, input.frequencies,
                            input.scale, table.data, half});
}

}  // namespace billfish::BILLFISH_TARGET
