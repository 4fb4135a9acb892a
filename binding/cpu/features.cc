#include "cpu/features.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "engine/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace billfish::cpu {
namespace {

struct Processor {
  InstructionSet best = InstructionSet::scalar;
  bool avx512_bf16 = false;
};

#if defined(__x86_64__)

__attribute__((target("xsave"))) unsigned long long enabled_register_state() { return _xgetbv(0); }

Processor detect() {
  Processor processor;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const auto all = [](unsigned value, unsigned bits) { return (value & bits) == bits; };

  constexpr unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !all(ecx, fma | osxsave | avx | f16c)) return processor;
  // The operating system must save the wide registers: bits 1 and 2 are xmm and ymm, 5 to 7 masks and zmm.
  const unsigned long long state = enabled_register_state();
  if ((state & 0x06) != 0x06) return processor;

  constexpr unsigned avx2 = 1u << 5;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !all(ebx, avx2)) return processor;
  processor.best = InstructionSet::avx2;

  constexpr unsigned avx512_f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, avx512_vnni = 1u << 11;
  if ((state & 0xe6) != 0xe6 || !all(ebx, avx512_f_dq_bw_vl) || !all(ecx, avx512_vnni)) return processor;
  processor.best = InstructionSet::avx512;

  constexpr unsigned avx512_bf16 = 1u << 5;
  processor.avx512_bf16 = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && all(eax, avx512_bf16);
  return processor;
}

#else

Processor detect() { return {}; }

#endif

const Processor& processor() {
  static const Processor detected = detect();
  return detected;
}

InstructionSet from_environment() {
  const char* wanted = std::getenv("BILLFISH_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return processor().best;
  for (const InstructionSet set : {InstructionSet::scalar, InstructionSet::avx2, InstructionSet::avx512}) {
    if (std::string(wanted) == name(set)) return std::min(set, processor().best);
  }
  throw Error("INVALID_OPTION",
              "BILLFISH_CPU_ISA is '" + std::string(wanted) + "'; it may be scalar, avx2 or avx512, or be left out");
}

std::atomic<InstructionSet>& current() {
  static std::atomic<InstructionSet> set{from_environment()};
  return set;
}

}  // namespace

InstructionSet best_instruction_set() { return processor().best; }

InstructionSet instruction_set() { return current().load(std::memory_order_relaxed); }

InstructionSet set_instruction_set(InstructionSet wanted) {
  const InstructionSet used = std::min(wanted, processor().best);
  current().store(used, std::memory_order_relaxed);
  return used;
}

const char* name(InstructionSet set) {
  switch (set) {
    case InstructionSet::scalar:
      return "scalar";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
  }
  return "unknown";
}

bool has_avx512_bf16() { return processor().avx512_bf16; }

}  // namespace billfish::cpu
