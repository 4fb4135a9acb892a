// For tests that run a body with each instruction set of this machine, on a pool of three threads.
#pragma once
#include "cpu/kernels.h"
#include "engine/thread_pool.h"

template <class Body>
void on_every_instruction_set(Body body) {
  using namespace billfish::cpu;
  const InstructionSet before = instruction_set();
  for (const InstructionSet wanted : all_instruction_sets) {
    if (set_instruction_set(wanted) == wanted) body();
  }
  set_instruction_set(before);
}

inline billfish::ThreadPool& pool() {
  static billfish::ThreadPool three(3);
  return three;
}
