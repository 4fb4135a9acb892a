#if defined(__x86_64__)

#include "cpu/vector_avx2.h"
// The vector type comes first.
#include "cpu/attention_kernels_body.h"

namespace billfish::cpu {

void attention_avx2(const AttentionTask& task) { run_attention(task); }

}  // namespace billfish::cpu

#endif
