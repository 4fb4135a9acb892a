#include "layer/attention.h"

#include <algorithm>

#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Attention>& call) {
  const auto matrix = [&](const Tensor& tensor) { return context.template matrix<Element>(tensor); };
  const LayerCache& layer = call.layer;
  const KvCache<Element> cache{static_cast<Element*>(layer.keys), static_cast<Element*>(layer.values), layer.block_size,
                               layer.kv_heads, layer.head_dim};
  write_kv<Element>(context.stream, *context.batch, matrix(call.k), matrix(call.v), cache);
  const AttentionShape shape{call.heads, layer.kv_heads, layer.head_dim, call.window, call.bidirectional != 0};
  const auto& shapes = context.attention;
  const auto index = std::find(shapes.begin(), shapes.end(), shape) - shapes.begin();
  attention<Element>(context.stream, *context.batch, static_cast<int32_t>(index), matrix(call.q), cache, call.scale,
                     context.attention_scratch, matrix(call.out));
}

BILLFISH_INSTANTIATE_RUN(Attention);

}  // namespace billfish::BILLFISH_TARGET
