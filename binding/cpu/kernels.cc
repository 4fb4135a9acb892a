#include "cpu/kernels.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>

#include "engine/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace billfish::cpu {
namespace {

#if defined(__x86_64__)

__attribute__((target("xsave"))) unsigned long long enabled_register_state() { return _xgetbv(0); }

InstructionSet detect() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const auto all = [](unsigned value, unsigned bits) { return (value & bits) == bits; };

  constexpr unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !all(ecx, fma | osxsave | avx | f16c)) return InstructionSet::scalar;
  // The operating system must save the wide registers: bits 1 and 2 are xmm and ymm, 5 to 7 masks and zmm.
  const unsigned long long state = enabled_register_state();
  if ((state & 0x06) != 0x06) return InstructionSet::scalar;

  constexpr unsigned avx2 = 1u << 5;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !all(ebx, avx2)) return InstructionSet::scalar;

  constexpr unsigned avx512_f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, avx512_vnni = 1u << 11;
  if ((state & 0xe6) != 0xe6 || !all(ebx, avx512_f_dq_bw_vl) || !all(ecx, avx512_vnni)) return InstructionSet::avx2;

  constexpr unsigned avx512_vbmi = 1u << 1, avx512_bf16 = 1u << 5;
  if (!all(ecx, avx512_vbmi)) return InstructionSet::avx512;
  if (!__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) || !all(eax, avx512_bf16)) return InstructionSet::avx512;
  return InstructionSet::avx512_bf16;
}

bool is_made_by_amd() {
  unsigned largest_leaf = 0, name[3] = {};
  if (!__get_cpuid(0, &largest_leaf, &name[0], &name[2], &name[1])) return false;
  const std::string_view vendor(reinterpret_cast<const char*>(name), sizeof(name));
  return vendor == "AuthenticAMD" || vendor == "HygonGenuine";
}

#else

InstructionSet detect() { return InstructionSet::scalar; }
bool is_made_by_amd() { return false; }

#endif

InstructionSet from_environment() {
  const char* wanted = std::getenv("BILLFISH_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return best_instruction_set();
  for (const InstructionSet set : all_instruction_sets) {
    if (std::string(wanted) == name(set)) return std::min(set, best_instruction_set());
  }
  throw Error("INVALID_OPTION", "BILLFISH_CPU_ISA is '" + std::string(wanted) +
                                    "'; it may be scalar, avx2, avx512 or avx512_bf16, or be left out");
}

std::atomic<InstructionSet>& current() {
  static std::atomic<InstructionSet> set{from_environment()};
  return set;
}

std::atomic<bool>& fast_subnormals() {
  static std::atomic<bool> fast{is_made_by_amd()};
  return fast;
}

const Kernels& kernels() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512_bf16:
    case InstructionSet::avx512:
      return kernels_avx512;
    case InstructionSet::avx2:
      return kernels_avx2;
    case InstructionSet::scalar:
      break;
  }
#endif
  return kernels_scalar;
}

}  // namespace

InstructionSet best_instruction_set() {
  static const InstructionSet detected = detect();
  return detected;
}

InstructionSet instruction_set() { return current().load(std::memory_order_relaxed); }

InstructionSet set_instruction_set(InstructionSet wanted) {
  const InstructionSet used = std::min(wanted, best_instruction_set());
  current().store(used, std::memory_order_relaxed);
  return used;
}

bool has_fast_subnormals() { return fast_subnormals().load(std::memory_order_relaxed); }

bool set_fast_subnormals(bool fast) { return fast_subnormals().exchange(fast, std::memory_order_relaxed); }

const char* name(InstructionSet set) {
  switch (set) {
    case InstructionSet::scalar:
      return "scalar";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx512_bf16:
      return "avx512_bf16";
  }
  return "unknown";
}

AttentionKernel attention_kernel() { return kernels().attention; }
const RowKernels& row_kernels() { return kernels().rows; }
const QuantizedLinearKernels& quantized_linear_kernels() { return kernels().quantized_linear; }
const FloatCodeKernels& float_code_kernels() {
#if defined(__x86_64__)
  if (instruction_set() == InstructionSet::avx2 && has_fast_subnormals()) return float_code_kernels_avx2_subnormals;
#endif
  return kernels().float_code;
}
const FloatPairKernels* float_pair_kernels() {
#if defined(__x86_64__)
  if (instruction_set() == InstructionSet::avx512_bf16) return &float_pair_kernels_avx512_bf16;
#endif
  return nullptr;
}
const MatrixKernels& matrix_kernels() { return kernels().matrix; }
DeltaRuleKernel delta_rule_kernel() { return kernels().delta_rule; }

}  // namespace billfish::cpu
