// Launching a kernel in the emulator; cuda/runtime/launch.h documents the interface.
#pragma once
#include <string>
#include <string_view>

#include "machine/grid.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// "Scale<float>", out of what the compiler calls this function.
template <class Kernel>
std::string kernel_name() {
  std::string_view text = __PRETTY_FUNCTION__;  // ... kernel_name() [with Kernel = NAME; ...]
  text.remove_prefix(text.find("Kernel = ") + 9);
  text = text.substr(0, text.find_first_of(";]"));
  if (const size_t space = text.find("emulated::"); space != text.npos) text.remove_prefix(space + 10);
  return std::string(text);
}

// Queues it. Throws INTERNAL when the device cannot run such a grid.
void enqueue(Stream& stream, const LaunchShape& shape, uint32_t max_threads, std::string kernel,
             std::function<void()> body);

template <class Kernel>
void launch(Stream& stream, const LaunchShape& shape, const Kernel& kernel) {
  enqueue(stream, shape, Kernel::max_threads, kernel_name<Kernel>(), [kernel] { kernel(); });
}

}  // namespace billfish::BILLFISH_TARGET
