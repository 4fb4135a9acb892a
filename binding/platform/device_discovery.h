// The devices of this machine. The same answer, with a reason, whether or not CUDA is compiled in.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace billfish {

struct CudaDevice {
  int index = 0;  // CUDA's index, after CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int code_architecture = 0;  // of this build's code that runs there (code_architecture.h); 0: none
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  bool has_context = false;  // of this process; its memory is already excluded from free_bytes
  std::string problem;       // why nothing can be allocated there, in CUDA's words; usually empty
  int multiprocessors = 0;
  uint64_t l2_bytes = 0;
  std::string pci_bus_id;  // "0000:3b:00.0"
};

enum class CudaStatus {
  available,
  not_compiled,    // billfish was built without the CUDA backend
  no_driver,       // there is no libcuda.so.1
  driver_too_old,  // the driver cannot run this CUDA runtime
  no_device,       // the driver works but shows no GPU to this process
  other_error      // `error` holds CUDA's own text
};

struct CudaReport {
  CudaStatus status = CudaStatus::not_compiled;
  std::vector<CudaDevice> devices;
  int driver_version = 0;   // the newest CUDA that the driver runs, 1000 * major + 10 * minor; 0 without a driver
  int runtime_version = 0;  // the CUDA that billfish was built with, likewise; 0 when not compiled in
  std::string error;        // only with other_error
};

// Queries the CUDA runtime; never throws. The first call initializes the driver, which may take a second.
CudaReport discover_cuda_devices();

// Why there is no CUDA device and what to do about it, for a person; empty when the status is `available`.
std::string explain(const CudaReport& report);

// Runs small kernels on the device, including every kind of GEMM, and checks their results. Throws DEVICE_NOT_FOUND if
// there is no such device or no code for it, INTERNAL naming the wrong result.
void test_cuda_device(int index);

// A CUDA device in the emulator (cuda/README.md).
struct EmulatedDevice {
  std::string name;  // "emulated:0"
  int compute_major = 0;
  int compute_minor = 0;
  int code_architecture = 0;
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  int multiprocessors = 0;
};

// Empty in a build without the emulator. Throws INVALID_OPTION for an invalid BILLFISH_EMULATED_MEMORY.
std::vector<EmulatedDevice> list_emulated_devices();

// Why there are no emulated devices and how to get them, for a person; empty if there are.
std::string explain_emulator();

// 13010 -> "13.1"
std::string cuda_version_text(int version);

}  // namespace billfish
