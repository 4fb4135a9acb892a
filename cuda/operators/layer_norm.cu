#include "layer/register_row.h"
#include "layer/vector.h"
#include "operators/operator_context.h"
#include "primitives/index.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// One block per row.
template <class In, class Element, int count, int per_thread>
struct LayerNorm {
  static constexpr int max_threads = block_threads(per_thread);
  Global<const In> x;
  Global<const float> weight, bias;
  bool has_bias;
  Global<Element> out;
  int64_t x_stride, out_stride;
  uint32_t vectors;  // a row
  float eps;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const int64_t row = block_index().x;
    RegisterRow<count, per_thread> run = {};
    run.load(vectors, x + row * x_stride);
    center(run);
    center(run);
    const float factor = run.norm_factor(vectors, eps);
    const Global<Element> to = out + row * out_stride;
    run.for_each(vectors, [&](float(&v)[count], int64_t column) {
      float w[count], b[count] = {};
      load_floats<count, float>(weight + column, w);
      if (has_bias) load_floats<count, float>(bias + column, b);
      UNROLL for (int i = 0; i < count; ++i) w[i] = fused_multiply_add(v[i] * factor, w[i], b[i]);
      store_floats<count, Element>(to + column, w);
    });
  }

  // Subtracts the mean. Next to a large mean the deviations are small, but they are exact differences of floats. What
  // rounding of the mean left in them is their own mean, which a second call removes.
  DEVICE void center(RegisterRow<count, per_thread>& run) const {
    const float mean = run.mean(vectors, [](float v) { return v; });
    run.for_each(vectors, [&](float(&v)[count], int64_t) { UNROLL for (int i = 0; i < count; ++i) v[i] -= mean; });
  }
};

}  // namespace

template <class In, class Element>
static void layer_norm(OperatorContext<Element>& context, const Call<billfish::LayerNorm>& call) {
  const Matrix<In> x = context.template matrix<In>(call.x);
  const Matrix<Element> out = context.template matrix<Element>(call.out);
  const float *const weight = vector_of(call.weight), *const bias = vector_of(call.bias);
  if (x.rows <= 0) return;
  launch_with_register_rows(context.stream, {static_cast<uint32_t>(x.rows)}, x.columns, is_wide(x) && is_wide(out),
                            [&](auto count, auto per_thread, uint32_t vectors) {
                              return LayerNorm<In, Element, count, per_thread>{x.data,          weight,   bias,
                                                                               bias != nullptr, out.data, x.stride,
                                                                               out.stride,      vectors,  call.eps};
                            });
}

// Accumulated in fp32. x: the residual stream or an activation. Throws UNSUPPORTED_MODEL for rows of more than 16384
// columns (8192 where rows are not aligned).
template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::LayerNorm>& call) {
  call.x.type == DType::f32 ? layer_norm<float>(context, call) : layer_norm<Element>(context, call);
}

BILLFISH_INSTANTIATE_RUN(LayerNorm);

}  // namespace billfish::BILLFISH_TARGET
