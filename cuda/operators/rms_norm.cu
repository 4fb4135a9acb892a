#include "layer/register_row.h"
#include "layer/vector.h"
#include "operators/operator_context.h"
#include "primitives/index.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// --- Wide runs: one block each.

// out = run * norm factor * weight.
template <class Element, int count, int per_thread>
DEVICE void write_norm(RegisterRow<count, per_thread>& run, uint32_t vectors, Global<const float> weight, float eps,
                       Global<Element> out) {
  const float factor = run.norm_factor(vectors, eps);
  run.for_each(vectors, [&](float(&v)[count], int64_t column) {
    float w[count];
    load_floats<count, float>(weight + column, w);
    UNROLL for (int i = 0; i < count; ++i) w[i] *= v[i] * factor;
    store_floats<count, Element>(out + column, w);
  });
}

template <class In, class Element, int count, int per_thread>
struct RmsNormOfRow {
  static constexpr int max_threads = block_threads(per_thread);
  Global<const In> x;
  Global<const float> weight;
  Global<Element> out;
  int64_t x_stride, out_stride;
  uint32_t vectors;  // a run
  float eps;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const int64_t row = block_index().x, first = static_cast<int64_t>(block_index().y) * vectors * count;
    const Global<const In> from = x + (row * x_stride + first);
    RegisterRow<count, per_thread> run = {};
    run.load(vectors, from);
    write_norm(run, vectors, weight, eps, out + (row * out_stride + first));
  }
};

template <class Element, int count, int per_thread>
struct AddRmsNorm {
  static constexpr int max_threads = block_threads(per_thread);
  Global<float> x;
  Global<const Element> y;
  Global<const float> weight;
  Global<Element> out;
  int64_t x_stride, y_stride, out_stride;
  uint32_t vectors;
  float eps;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const int64_t row = block_index().x;
    const Global<float> sum = x + row * x_stride;
    const Global<const Element> addend = y + row * y_stride;
    RegisterRow<count, per_thread> run = {};
    run.for_each(vectors, [&](float(&v)[count], int64_t column) {
      float a[count];
      load_floats<count, float>(sum + column, v);
      load_floats<count, Element>(addend + column, a);
      UNROLL for (int i = 0; i < count; ++i) v[i] += a[i];
      store_floats<count, float>(sum + column, v);
    });
    write_norm(run, vectors, weight, eps, out + row * out_stride);
  }
};

// --- Narrow runs (the heads of q and k): `lanes` lanes of a warp each, one vector per lane.

constexpr uint32_t narrow_threads = 128;

template <class In, class Element>
struct RmsNormOfHeads {
  static constexpr int max_threads = narrow_threads;
  Global<const In> x;
  Global<const float> weight;
  Global<Element> out;
  int64_t x_stride, out_stride;
  uint32_t heads, head_vectors, lanes;  // lanes: head_vectors rounded up to a power of two
  float eps;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const uint32_t head = (block_index().y * narrow_threads + thread_index().x) / lanes;
    const uint32_t vector = thread_index().x % lanes;
    const bool works = head < heads && vector < head_vectors;
    const int64_t row = block_index().x, column = (static_cast<int64_t>(head) * head_vectors + vector) * wide;
    float v[wide] = {};
    if (works) load_floats<wide, In>(x + (row * x_stride + column), v);
    float squares = 0;
    UNROLL for (int i = 0; i < wide; ++i) squares += v[i] * v[i];
    for (uint32_t step = lanes / 2; step > 0; step /= 2) squares += shuffle_xor(squares, static_cast<int>(step));
    if (!works) return;
    const float factor = 1.0f / square_root(squares / static_cast<float>(head_vectors * wide) + eps);
    float w[wide];
    load_floats<wide, float>(weight + static_cast<int64_t>(vector) * wide, w);
    UNROLL for (int i = 0; i < wide; ++i) w[i] *= v[i] * factor;
    store_floats<wide, Element>(out + (row * out_stride + column), w);
  }
};

}  // namespace

template <class In, class Element>
static void rms_norm(OperatorContext<Element>& context, const Call<billfish::RmsNorm>& call) {
  const Matrix<In> x = context.template matrix<In>(call.x);
  const Matrix<Element> out = context.template matrix<Element>(call.out);
  const float* const weight = vector_of(call.weight);
  const int64_t width = call.width;
  if (x.rows <= 0) return;
  const bool in_wide_vectors = width % wide == 0 && is_wide(x) && is_wide(out);
  const auto rows = static_cast<uint32_t>(x.rows), runs = static_cast<uint32_t>(x.columns / width);
  if (in_wide_vectors && width <= wide * warp_size && runs > 1) {
    const auto vectors = static_cast<uint32_t>(width / wide);
    uint32_t lanes = 1;
    while (lanes < vectors) lanes *= 2;
    const uint32_t heads_per_block = narrow_threads / lanes;
    launch(context.stream,
           {.grid = {rows, (runs + heads_per_block - 1) / heads_per_block},
            .block = {narrow_threads},
            .programmatic = true},
           RmsNormOfHeads<In, Element>{x.data, weight, out.data, x.stride, out.stride, runs, vectors, lanes, call.eps});
    return;
  }
  launch_with_register_rows(context.stream, {rows, runs}, width, in_wide_vectors,
                            [&](auto count, auto per_thread, uint32_t vectors) {
                              return RmsNormOfRow<In, Element, count, per_thread>{
                                  x.data, weight, out.data, x.stride, out.stride, vectors, call.eps};
                            });
}

// Accumulated in fp32. x: the residual stream or an activation. Throws UNSUPPORTED_MODEL for runs of more than 16384
// columns (8192 where rows are not aligned).
template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::RmsNorm>& call) {
  call.x.type == DType::f32 ? rms_norm<float>(context, call) : rms_norm<Element>(context, call);
}

BILLFISH_INSTANTIATE_RUN(RmsNorm);

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::AddRmsNorm>& call) {
  const Matrix<float> x = context.template matrix<float>(call.x);
  const Matrix<Element> y = context.template matrix<Element>(call.y), out = context.template matrix<Element>(call.out);
  const float* const weight = vector_of(call.weight);
  if (x.rows <= 0) return;
  launch_with_register_rows(context.stream, {static_cast<uint32_t>(x.rows)}, x.columns,
                            is_wide(x) && is_wide(y) && is_wide(out),
                            [&](auto count, auto per_thread, uint32_t vectors) {
                              return AddRmsNorm<Element, count, per_thread>{
                                  x.data, y.data, weight, out.data, x.stride, y.stride, out.stride, vectors, call.eps};
                            });
}

BILLFISH_INSTANTIATE_RUN(AddRmsNorm);

}  // namespace billfish::BILLFISH_TARGET
