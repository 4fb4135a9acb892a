// A tiny model on two emulated devices.
#pragma once
#include <memory>
#include <string>

#include "backends.h"
#include "support/tiny_model.h"

namespace emulated_model {

constexpr billfish::StageLimits limits = {16, 8, 12, 4};

// A model on two devices of these numbers.
inline billfish::TinyModel::MakeBackend on(int first, int second) {
  return [first, second](const std::string& device) {
    const std::string name = "emulated:" + std::to_string(device == "cpu:0" ? first : second);
    return billfish::make_backend(name, {false, billfish::DType::f16, billfish::DType::f16});
  };
}

inline std::shared_ptr<billfish::Step> run(billfish::TinyModel& model) {
  return model.submit(model.step({1, 2, 3}, 0, 3, 2)).get();
}

}  // namespace emulated_model
