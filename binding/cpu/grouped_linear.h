// The linears of experts on the CPU.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/linear.h"

namespace billfish::cpu {

// Bytes of scratch for `rows` rows of `per_token` slots each. `call`: a weight with the kind, inputs and group size of
// the experts.
size_t grouped_linear_scratch_bytes(const LinearCall& call, int64_t rows, int64_t per_token, int64_t experts,
                                    Precision precision);

}  // namespace billfish::cpu
