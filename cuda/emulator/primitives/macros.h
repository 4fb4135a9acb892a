// The emulator's stand-ins for nvcc's keywords: plain C++.
#pragma once
#include "machine/location.h"

#if !defined(BILLFISH_TARGET)
#error "BILLFISH_TARGET names the namespace of this compilation: cuda, or emulated. The build sets it."
#endif

#define DEVICE inline
#define HOST_DEVICE inline
#define UNROLL

namespace billfish::BILLFISH_TARGET {

using emulator::Location;  // of a primitive's caller, for messages

}  // namespace billfish::BILLFISH_TARGET
