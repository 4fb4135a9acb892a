// For tests that run a body with each instruction set of this machine, and with AVX2's kernels for processors of either
// kind, on a pool of three threads.
#pragma once
#include "cpu/kernels.h"
#include "engine/thread_pool.h"

template <class Body>
void on_every_instruction_set(Body body) {
  using namespace billfish::cpu;
  const InstructionSet before = instruction_set();
  for (const InstructionSet wanted : all_instruction_sets) {
    if (set_instruction_set(wanted) != wanted) continue;
    body();
    if (wanted != InstructionSet::avx2) continue;
    const bool fast = set_fast_subnormals(!has_fast_subnormals());
    body();
    set_fast_subnormals(fast);
  }
  set_instruction_set(before);
}

inline billfish::ThreadPool& pool() {
  static billfish::ThreadPool three(3);
  return three;
}
