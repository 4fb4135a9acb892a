#include "layer/attention.h"

#include <string>

#include "engine/error.h"
#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// 4 bytes per element of both matrices.
template <class Element>
struct WriteKv {
  Global<const Element> new_keys, new_values;
  int64_t key_stride, value_stride;
  Global<Element> keys, values;
  Global<const int32_t> positions, row_sequence;
  Global<const DeviceSpan> spans;
  Global<const int32_t> block_tables;
  uint32_t block_size, kv_heads, head_dim;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const int32_t sequence = row_sequence[row];
    if (sequence < 0) return;
    const DeviceSpan span = spans[sequence];
    const auto position = static_cast<uint32_t>(int32_t{positions[row]});
    const int64_t block = int32_t{block_tables[span.first_block + position / block_size]};
    const uint32_t head = static_cast<uint32_t>(column) / head_dim, within = static_cast<uint32_t>(column) % head_dim;
    const int64_t to = ((block * kv_heads + head) * block_size + position % block_size) * head_dim + within;
    copy<count>(new_keys + (row * key_stride + column), keys + to);
    copy<count>(new_values + (row * value_stride + column), values + to);
  }
  template <int count>
  DEVICE void copy(Global<const Element> from, Global<Element> to) const {
    float x[count];
    load_floats<count, Element>(from, x);
    UNROLL for (int i = 0; i < count; ++i) {
      const float zero = x[i] - x[i];  // NaN if it is an infinity or NaN
      if (zero != 0) x[i] = zero;
    }
    store_floats<count, Element>(to, x);
  }
};

}  // namespace

template <class Element>
void write_kv(Stream& stream, const DeviceBatch& batch, const Matrix<const Element>& keys,
              const Matrix<const Element>& values, const KvCache<Element>& cache) {
  if (cache.block_size % 16 != 0 || cache.head_dim % wide != 0) {
    throw Error("UNSUPPORTED_MODEL", "a KV cache of " + std::to_string(cache.block_size) + " positions a block and " +
                                         std::to_string(cache.head_dim) +
                                         " columns a head: CUDA kernels want multiples of 16 and 8");
  }
  for_each_vector(stream, keys.rows, keys.columns, is_wide(keys) && is_wide(values),
                  WriteKv<Element>{keys.data, values.data, keys.stride, values.stride, cache.keys, cache.values,
                                   batch.positions(), batch.row_sequence(), batch.spans(), batch.block_tables(),
                                   static_cast<uint32_t>(cache.block_size), static_cast<uint32_t>(cache.kv_heads),
                                   static_cast<uint32_t>(cache.head_dim)});
}

template void write_kv(Stream&, const DeviceBatch&, const Matrix<const half>&, const Matrix<const half>&,
                       const KvCache<half>&);
template void write_kv(Stream&, const DeviceBatch&, const Matrix<const bfloat16>&, const Matrix<const bfloat16>&,
                       const KvCache<bfloat16>&);

}  // namespace billfish::BILLFISH_TARGET
