// The instruction set of the CPU kernels, detected at run time.
#pragma once

namespace billfish::cpu {

// Each level includes the previous ones. avx2 = AVX2 + FMA + F16C; avx512 = F, BW, VL, DQ, VNNI (Cascade Lake, Zen 4
// and later).
enum class InstructionSet { scalar = 0, avx2 = 1, avx512 = 2 };

// The best one that this processor and operating system support.
InstructionSet best_instruction_set();

// The one in use: the best, or the one named by BILLFISH_CPU_ISA=scalar|avx2|avx512 if supported. set_instruction_set
// is for tests and benchmarks; it clamps to the best and returns the one now in use.
InstructionSet instruction_set();
InstructionSet set_instruction_set(InstructionSet wanted);
const char* name(InstructionSet set);
bool has_avx512_bf16();

}  // namespace billfish::cpu
