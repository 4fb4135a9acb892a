// attention() for one element type. CMake generates a source per type that includes this, so that they compile in
// parallel.
#pragma once
#include <string>

#include "engine/error.h"
#include "layer/attention.h"
#include "layer/attention_decode.h"
#include "layer/attention_merge.h"
#include "layer/attention_prefill.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

template <class Element>
void require_supported(const AttentionShape& shape, const Matrix<const Element>& q, const KvCache<Element>& cache,
                       const Matrix<Element>& out) {
  if (shape.head_dim % 8 != 0 || shape.head_dim > 256) {
    throw Error("UNSUPPORTED_MODEL", "attention with a head_dim of " + std::to_string(shape.head_dim) +
                                         ": CUDA kernels want a multiple of 8, at most 256");
  }
  if (cache.block_size % 16 != 0) {
    throw Error("UNSUPPORTED_MODEL", "a KV cache of " + std::to_string(cache.block_size) +
                                         " positions a block: CUDA kernels want a multiple of 16");
  }
  if (!is_wide(q) || !is_wide(out)) {
    throw Error("INTERNAL", "attention wants rows of queries and outputs that begin at multiples of 16 bytes");
  }
}

template <class Element, int columns>
void launch_attention(Stream& stream, const DeviceAttentionPlan& plan, const AttentionParameters<Element>& p) {
  const DeviceAttentionPlan::Counts& counts = plan.launched;
  const auto kv_heads = static_cast<uint32_t>(p.kv_heads);
  const auto blocks = [](int32_t count) { return static_cast<uint32_t>(count); };
  if (counts.decode > 0) {
    DecodeAttention<Element, columns> kernel{p};
    kernel.p.items = plan.decode;
    launch(stream,
           {.grid = {blocks(counts.decode), kv_heads},
            .block = {attention_threads},
            .shared_bytes = kernel.shared_bytes,
            .programmatic = true},
           kernel);
  }
  if (counts.prefill > 0) {
    PrefillAttention<Element, columns> kernel{p};
    kernel.p.items = plan.prefill;
    launch(stream,
           {.grid = {blocks(counts.prefill), kv_heads},
            .block = {attention_threads},
            .shared_bytes = kernel.shared_bytes,
            .programmatic = true},
           kernel);
  }
}

template <class Element>
void attention(Stream& stream, const DeviceBatch& batch, int32_t attention, const Matrix<const Element>& q,
               const KvCache<Element>& cache, float scale, void* scratch, const Matrix<Element>& out) {
  const DeviceAttentionPlan& plan = batch.attention_plan(attention);
  const AttentionShape& shape = plan.shape;
  require_supported(shape, q, cache, out);
  const size_t partial_rows = static_cast<size_t>(gpu::attention_capacity(shape, 0, 0).partials) *
                              static_cast<size_t>(shape.kv_heads) * decode_tile_rows;
  auto* const states = static_cast<float2*>(scratch);
  const AttentionParameters<Element> p{
      .counts = plan.counts,
      .items = nullptr,
      .spans = batch.spans(),
      .block_tables = batch.block_tables(),
      .q = q.data,
      .keys = cache.keys,
      .values = cache.values,
      .out = out.data,
      .q_stride = q.stride,
      .out_stride = out.stride,
      .partial = {states, reinterpret_cast<float*>(states + partial_rows)},
      .block_size = cache.block_size,
      .kv_heads = shape.kv_heads,
      .group = shape.group(),
      .head_dim = shape.head_dim,
      .window = shape.window,
      .bidirectional = shape.bidirectional,
      .scale_log2 = scale * 1.44269504f,
  };
  if (shape.head_dim <= 32) {
    launch_attention<Element, 32>(stream, plan, p);
  } else if (shape.head_dim <= 64) {
    launch_attention<Element, 64>(stream, plan, p);
  } else if (shape.head_dim <= 128) {
    launch_attention<Element, 128>(stream, plan, p);
  } else {
    launch_attention<Element, 256>(stream, plan, p);
  }
  if (plan.launched.merges > 0) {
    using Merge = MergeAttention<Element>;
    launch(
        stream,
        {.grid = {static_cast<uint32_t>(plan.launched.merges), static_cast<uint32_t>(shape.kv_heads), decode_tile_rows},
         .block = {attention_threads},
         .shared_bytes = Merge::shared_bytes,
         .programmatic = true},
        Merge{p, plan.merges});
  }
}

}  // namespace billfish::BILLFISH_TARGET
