#include "platform/device_discovery.h"

#include "engine/error.h"
#include "support/check.h"
#ifdef BILLFISH_WITH_CUDA
#include "cuda/runtime/discovery.h"
#endif

using billfish::CudaReport;
using billfish::CudaStatus;

static bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST(device_discovery_explains_every_reason) {
  CudaReport report;
  report.runtime_version = 13000;
  report.driver_version = 12040;
  report.error = "cudaErrorUnknown (999): unknown error";
  const struct {
    CudaStatus status;
    const char* part;
  } cases[] = {
      {CudaStatus::not_compiled, "BILLFISH_CUDA=on"},
      {CudaStatus::no_driver, "libcuda.so.1"},
      {CudaStatus::driver_too_old, "runs CUDA 12.4, and billfish was built with CUDA 13.0. Update the driver to 580"},
      {CudaStatus::no_device, "CUDA_VISIBLE_DEVICES"},
      {CudaStatus::other_error, "cudaErrorUnknown (999)"}};
  for (const auto& expected : cases) {
    report.status = expected.status;
    CHECK_MESSAGE(contains(explain(report), expected.part), explain(report));
  }
  report.status = CudaStatus::available;
  CHECK(explain(report).empty());
}

TEST(device_discovery_report_is_consistent) {
  const CudaReport report = billfish::discover_cuda_devices();
  CHECK((report.status == CudaStatus::available) == !report.devices.empty());
  CHECK((report.status == CudaStatus::other_error) == !report.error.empty());
  CHECK((report.status == CudaStatus::not_compiled) == (report.runtime_version == 0));
}

TEST(device_discovery_refuses_a_device_that_is_not_there) {
  CHECK_THROWS(billfish::test_cuda_device(1000), "DEVICE_NOT_FOUND");
  CHECK_THROWS(billfish::test_cuda_device(-1), "DEVICE_NOT_FOUND");
}

#ifdef BILLFISH_WITH_CUDA
TEST(device_discovery_distinguishes_no_driver_from_an_old_one) {
  using billfish::cuda::classify;
  constexpr int success = 0, insufficient_driver = 35, no_device = 100, unknown = 999;
  CHECK(classify(insufficient_driver, 0, false) == CudaStatus::no_driver);
  CHECK(classify(insufficient_driver, 0, true) == CudaStatus::driver_too_old);
  CHECK(classify(no_device, 0, true) == CudaStatus::no_device);
  CHECK(classify(success, 0, true) == CudaStatus::no_device);
  CHECK(classify(success, 2, true) == CudaStatus::available);
  CHECK(classify(unknown, 0, true) == CudaStatus::other_error);
}
#endif
