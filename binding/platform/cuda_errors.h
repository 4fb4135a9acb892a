// Which CUDA errors end all work on a device.
#pragma once

namespace billfish {

// Whether this cudaError_t is sticky: the context is corrupted, and every later call of the process on that device
// fails too. Such errors are illegal addresses and instructions, timeouts, and failed memory or links.
constexpr bool loses_device(int error) {
  constexpr int uncorrectable_memory = 214, uncorrectable_link = 220;
  constexpr int illegal_address = 700, launch_timeout = 702, assertion = 710;
  // 714 a hardware stack, 715 an illegal instruction (traps among them), 716 a misaligned address, 717 an address
  // space, 718 a program counter, 719 a launch that failed otherwise
  constexpr int first_exception = 714, last_exception = 719;
  return error == uncorrectable_memory || error == uncorrectable_link || error == illegal_address ||
         error == launch_timeout || error == assertion || (error >= first_exception && error <= last_exception);
}

}  // namespace billfish
