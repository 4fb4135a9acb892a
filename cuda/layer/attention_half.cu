#include "layer/attention_launch.h"

namespace billfish::BILLFISH_TARGET {

template void attention(Stream&, const DeviceBatch&, int32_t, const Matrix<const half>&, const KvCache<half>&, float,
                        void*, const Matrix<half>&);

}  // namespace billfish::BILLFISH_TARGET
