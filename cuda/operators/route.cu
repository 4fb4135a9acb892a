#include "layer/vector.h"
#include "operators/operator_context.h"
#include "primitives/index.h"
#include "primitives/math.h"
#include "primitives/reduce.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {
namespace {

constexpr uint32_t route_threads = 128;

// A warp a row: it picks one expert after the other, the largest logit below the last one. A row of 128 experts is four
// numbers a lane, so reading them again costs little.
struct Route {
  static constexpr int max_threads = route_threads;
  Global<const float> logits;
  Global<float> out;
  int64_t logits_stride, out_stride;
  uint32_t rows, experts, top_k, normalize;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const uint32_t row = block_index().x * (route_threads / warp_size) + warp_index();
    if (row >= rows) return;
    const Global<const float> from = logits + row * logits_stride;
    const Global<float> chosen = out + row * out_stride, weights = chosen + top_k;
    uint64_t last = ~uint64_t{0};
    float largest = 0, sum = 0;
    for (uint32_t j = 0; j < top_k; ++j) {
      uint64_t best = 0;
      for (uint32_t expert = lane_index(); expert < experts; expert += warp_size) {
        const float logit = from[expert];
        const uint64_t own = key_of(logit, expert);
        if (own < last) best = max(best, own);
      }
      last = warp_reduce(best, [](uint64_t a, uint64_t b) { return max(a, b); });
      const uint32_t expert = 0xffffffffu - static_cast<uint32_t>(last);
      const float logit = from[expert];
      if (j == 0) largest = logit;
      const float weight = exp(logit - largest);
      sum += weight;
      if (lane_index() == 0) {
        chosen[j] = static_cast<float>(expert);
        weights[j] = weight;
      }
    }
    if (normalize == 0) {
      float partial = 0;
      for (uint32_t expert = lane_index(); expert < experts; expert += warp_size) {
        const float logit = from[expert];
        partial += exp(logit - largest);
      }
      sum = warp_sum(partial);
    }
    if (lane_index() != 0) return;
    for (uint32_t j = 0; j < top_k; ++j) {
      const float weight = weights[j];
      weights[j] = weight / sum;
    }
  }

 private:
  // Larger for a larger logit, of equals for the lower number. A NaN ranks highest: it is among the chosen,
  // and makes all weights NaN. Never 0.
  DEVICE static uint64_t key_of(float logit, uint32_t expert) {
    const auto bits = bit_cast<uint32_t>(logit + 0.0f);  // one zero
    const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    const bool is_number = (bits & 0x7fffffffu) <= 0x7f800000u;
    return uint64_t{is_number ? ordered : 0xff800001u} << 32 | (0xffffffffu - expert);
  }
};

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Route>& call) {
  const Matrix<float> x = context.template matrix<float>(call.x), out = context.template matrix<float>(call.out);
  if (x.rows == 0) return;
  constexpr uint32_t rows_a_block = route_threads / warp_size;
  const auto rows = static_cast<uint32_t>(x.rows);
  launch(context.stream, {.grid = {ceil_div(rows, rows_a_block)}, .block = {route_threads}, .programmatic = true},
         Route{x.data, out.data, x.stride, out.stride, rows, static_cast<uint32_t>(x.columns),
               static_cast<uint32_t>(call.top_k), static_cast<uint32_t>(call.normalize)});
}

BILLFISH_INSTANTIATE_RUN(Route);

}  // namespace billfish::BILLFISH_TARGET
