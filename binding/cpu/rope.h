// The angles of rotary position embedding, which all layers of a step share.
#pragma once
#include <cstdint>

#include "engine/batch.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// cos/sin of every row's angles: angle[r, i] = float(position[r]) * inverse_frequency[i] (rounded to fp32, as PyTorch
// does), table[r] = { cos[0..half), sin[0..half) } * attention_scale. A sequence with rope_base != 0 takes
// inverse_frequency[i] = 1 / rope_base^(2i / (2 half)) in its place (dynamic NTK), which is written to `scratch`,
// [half].
void rope_table(const Batch& batch, const float* inverse_frequency, int64_t half, float attention_scale, float* table,
                float* scratch, ThreadPool& pool);

}  // namespace billfish::cpu
