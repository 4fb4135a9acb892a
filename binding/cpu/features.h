// The instruction set of the CPU kernels, detected at run time.
#pragma once

namespace billfish::cpu {

// Each level implies the ones before it. avx2 = AVX2 + FMA + F16C; avx512 = F, BW, VL, DQ, VNNI (Cascade Lake, Zen 4
// and later).
enum class InstructionSet { scalar = 0, avx2 = 1, avx512 = 2 };

// The best one this processor and operating system can run.
InstructionSet best_instruction_set();

// The one in use: the best, or the one that BILLFISH_CPU_ISA=scalar|avx2|avx512 names if it is no better than that.
// set_instruction_set is for tests and benches; it clamps to the best and returns what is now in use.
InstructionSet instruction_set();
InstructionSet set_instruction_set(InstructionSet wanted);
const char* name(InstructionSet set);
bool has_avx512_bf16();

}  // namespace billfish::cpu
