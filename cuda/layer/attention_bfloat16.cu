#include "layer/attention_launch.h"

namespace billfish::BILLFISH_TARGET {

template void attention(Stream&, const DeviceBatch&, int32_t, const Matrix<const bfloat16>&, const KvCache<bfloat16>&,
                        float, void*, const Matrix<bfloat16>&);

}  // namespace billfish::BILLFISH_TARGET
