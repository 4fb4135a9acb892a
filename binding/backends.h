// Where device names become backends: the one place that knows every kind of device.
#pragma once
#include <memory>
#include <string>

#include "engine/backend.h"

namespace billfish {

struct BackendOptions {
  bool exact = false;             // fp32 throughout (dtype 'float32')
  DType cache_type = DType::f16;  // of keys and values
};

// Throws DEVICE_NOT_FOUND naming the device and why there is no such one.
std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options);

}  // namespace billfish
