#include "platform/device_discovery.h"

namespace billfish {

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// The oldest Linux driver for a CUDA major version (minor versions are compatible).
static const char* oldest_driver(int runtime_version) {
  switch (runtime_version / 1000) {
    case 12:
      return "525";
    case 13:
      return "580";
    default:
      return nullptr;
  }
}

std::string explain(const CudaReport& report) {
  switch (report.status) {
    case CudaStatus::available:
      return "";
    case CudaStatus::not_compiled:
      return "this addon of billfish was built without CUDA. Install @billfish/linux-x64-cuda (on Linux x64), or the "
             "CUDA Toolkit (nvcc) and build with BILLFISH_CUDA=on.";
    case CudaStatus::no_driver:
      return "there is no NVIDIA driver (libcuda.so.1 was not found). Install the NVIDIA driver; in a container, start "
             "it "
             "with the NVIDIA Container Toolkit (docker run --gpus all).";
    case CudaStatus::driver_too_old: {
      std::string text = "the NVIDIA driver is too old: it runs CUDA " + cuda_version_text(report.driver_version) +
                         ", and billfish was built with CUDA " + cuda_version_text(report.runtime_version) + ". ";
      if (const char* driver = oldest_driver(report.runtime_version)) {
        text +=
            "Update the driver to " + std::string(driver) + " or later, or build billfish with an older CUDA Toolkit.";
      } else {
        text += "Update the driver, or build billfish with an older CUDA Toolkit.";
      }
      return text;
    }
    case CudaStatus::no_device:
      return "the NVIDIA driver shows no GPU to this process. Check nvidia-smi, and CUDA_VISIBLE_DEVICES if it is set.";
    case CudaStatus::other_error:
      return "CUDA does not work here: " + report.error + ". Check nvidia-smi and the driver's kernel log.";
  }
  return "";
}

}  // namespace billfish
