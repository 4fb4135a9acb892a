#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// Which rows a sequence has in this step, and its state of a layer.
struct SequenceStates {
  Global<const int32_t> row_sequence;
  Global<const DeviceSpan> spans;
  Global<float> states;
  int64_t width;  // of a state

  DEVICE Global<float> of(const DeviceSpan& span) const { return states + span.slot * width; }
};

// In fp32, rounded once. The rows of x before this step's are in the state.
template <class Element>
struct ConvSilu {
  Global<const Element> x;
  Global<const float> weight;
  Global<Element> out;
  int64_t x_stride, out_stride;
  int32_t taps;
  uint32_t columns;
  SequenceStates sequences;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const int32_t number = sequences.row_sequence[row];
    if (number < 0) return;  // padding
    const DeviceSpan span = sequences.spans[number];
    const Global<const float> state = sequences.of(span);
    const int32_t kept = taps - 1, own = static_cast<int32_t>(row) - span.first_row;
    float sums[count] = {};
    for (int32_t j = 0; j < taps; ++j) {
      const int32_t at = own - kept + j;
      if (at < 0 && span.past == 0) continue;
      float values[count];
      if (at >= 0) {
        load_floats<count, Element>(x + ((span.first_row + at) * x_stride + column), values);
      } else {
        load_floats<count, float>(state + (static_cast<int64_t>(at + kept) * columns + column), values);
      }
      UNROLL for (int i = 0; i < count; ++i) {
        const float factor = weight[(column + i) * taps + j];
        sums[i] += factor * values[i];
      }
    }
    UNROLL for (int i = 0; i < count; ++i) sums[i] /= 1.0f + exp(-sums[i]);
    store_floats<count, Element>(out + (row * out_stride + column), sums);
  }
};

// After the convolution, which reads the states: a sequence's last rows of x for its next step.
template <class Element>
struct KeepRows {
  Global<const Element> x;
  int64_t x_stride;
  int32_t kept;
  uint32_t columns;
  SequenceStates sequences;

  template <int count>
  DEVICE void apply(int64_t number, int64_t column) const {
    const int32_t is_padding = sequences.row_sequence[number];
    if (is_padding < 0) return;
    const DeviceSpan span = sequences.spans[number];
    const Global<float> state = sequences.of(span);
    for (int32_t i = 0; i < kept; ++i) {
      const int32_t row = span.rows - kept + i;
      float values[count] = {};
      if (row >= 0) {
        load_floats<count, Element>(x + ((span.first_row + row) * x_stride + column), values);
      } else if (span.past > 0) {  // a short step moves rows of the step before up
        load_floats<count, float>(state + (static_cast<int64_t>(row + kept) * columns + column), values);
      }
      store_floats<count, float>(state + (static_cast<int64_t>(i) * columns + column), values);
    }
  }
};

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::CausalConv>& call) {
  const Matrix<Element> x = context.template matrix<Element>(call.x), out = context.template matrix<Element>(call.out);
  const DeviceBatch& batch = *context.batch;
  const SequenceStates sequences{batch.row_sequence(), batch.spans(), call.state.data, call.state.width};
  const auto columns = static_cast<uint32_t>(x.columns);
  const bool in_wide_vectors = is_wide(x) && is_wide(out);
  for_each_vector(
      context.stream, x.rows, x.columns, in_wide_vectors,
      ConvSilu<Element>{x.data, vector_of(call.weight), out.data, x.stride, out.stride, call.taps, columns, sequences});
  for_each_vector(context.stream, batch.launched_sequences(), x.columns, in_wide_vectors,
                  KeepRows<Element>{x.data, x.stride, call.taps - 1, columns, sequences});
}

BILLFISH_INSTANTIATE_RUN(CausalConv);

}  // namespace billfish::BILLFISH_TARGET
