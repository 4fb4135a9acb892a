// Attention, and what happens to positions before it. See operators.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

// Rotates pairs of columns of every head, NeoX style: column i and column i + half of the head, half = the frequencies
// of Program::ropes[rope]. Columns from 2 * half on are left alone.
template <class Form>
struct Rope {
  static constexpr const char* name = "rope";
  typename Form::Value x;
  int32_t heads, head_dim, rope;

  static constexpr auto fields() {
    using Self = Rope;
    return std::tuple{update("x", &Self::x), attribute("heads", &Self::heads), attribute("headDim", &Self::head_dim),
                      attribute("rope", &Self::rope)};
  }
  void check(const OperatorCheck& check) const {
    check.heads(x, heads, head_dim);
    const auto pairs = static_cast<int64_t>(check.rope(rope).inverse_frequency.size());
    if (pairs * 2 > head_dim) check.fail("the rope turns ", pairs * 2, " columns of a head of ", head_dim);
  }
};

// Qwen v1's log-n attention: rows at 1-based position p > length are multiplied by log(p) / log(length).
template <class Form>
struct LogNScale {
  static constexpr const char* name = "logNScale";
  typename Form::Value x;
  int32_t length;

  static constexpr auto fields() {
    using Self = LogNScale;
    return std::tuple{update("x", &Self::x), attribute("length", &Self::length)};
  }
  void check(const OperatorCheck& check) const {
    if (check.value(x).rows != RowKind::tokens) check.fail("the rows of x are not those of the tokens");
    if (length <= 1) check.fail("length ", length, " does not exceed 1");
  }
};

// Attention over a layer of the KV cache, into which k and v are written first. Query heads share kv heads in order.
// Position i sees keys j <= i, with a window w only those with i - w < j. If `bidirectional` is 1, it sees all keys of
// its sequence, which the step must then have all rows of.
template <class Form>
struct Attention {
  static constexpr const char* name = "attention";
  typename Form::Value q, k, v, out;
  typename Form::CacheLayer layer;
  int32_t heads;
  float scale;
  int32_t window;
  int32_t bidirectional = 0;

  static constexpr auto fields() {
    using Self = Attention;
    return std::tuple{read("q", &Self::q),
                      read("k", &Self::k),
                      read("v", &Self::v),
                      write("out", &Self::out),
                      cache_layer("layer", &Self::layer),
                      attribute("heads", &Self::heads),
                      attribute("scale", &Self::scale),
                      attribute("window", &Self::window),
                      attribute("bidirectional", &Self::bidirectional)};
  }
  void check(const OperatorCheck& check) const {
    const auto& cache = check.cache_layer(layer);
    check.heads(q, heads, cache.head_dim);
    check.heads(k, cache.kv_heads, cache.head_dim);
    check.heads(v, cache.kv_heads, cache.head_dim);
    if (heads % cache.kv_heads != 0) check.fail(heads, " heads are no multiple of ", cache.kv_heads, " kv heads");
    if (window < 0 || !std::isfinite(scale)) check.fail("window is ", window, " and scale ", scale);
    if (bidirectional > 1 || (bidirectional == 1 && window > 0)) {
      check.fail("bidirectional is ", bidirectional, " with window ", window);
    }
    check.same_shape(q, out);
  }
};

}  // namespace billfish::operators
