// Kernels are chosen by the code that runs on a device, not by what the device is capable of.
#include "platform/code_architecture.h"
#include "machine/device.h"

#include <string>

#include "cuda/backend/device_backend.h"
#include "gemm/planned_linear.h"
#include "gemm/tiles.h"
#include "primitives/index.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/device.h"
#include "support/kernel_testing.h"

using billfish::code_architecture;

TEST(code_architecture_is_the_newest_machine_code_or_else_ptx) {
  const std::string release = "80-real 86-real 89-real 90-real 100-real 120";
  const struct {
    std::string compiled;
    int capability, code;
  } cases[] = {{"80-real 90", 90, 90},
               {"80-real 90", 80, 80},
               {"80-real 90", 86, 80},
               {"80-real 90", 100, 90},
               {"80", 90, 80},
               {"89", 90, 89},
               {"80-virtual", 90, 80},
               {"80-real", 90, 0},
               {"90", 80, 0},
               {"80;90-virtual", 86, 80},
               {"80;90-virtual", 90, 90},
               {"86 80", 89, 86},
               {"90a-real", 90, 90},
               {"90a", 100, 0},
               {"100f-real", 103, 100},
               {"100f", 120, 0},
               {release, 75, 0},
               {release, 86, 86},
               {release, 87, 86},
               {release, 90, 90},
               {release, 103, 100},
               {release, 120, 120},
               {release, 121, 120},
               {"", 90, 0}};
  for (const auto& expected : cases) {
    const auto found = code_architecture(expected.compiled, expected.capability);
    CHECK_MESSAGE(found == expected.code, "'" << expected.compiled << "' on " << expected.capability << " is "
                                              << (found ? *found : -1) << ", not " << expected.code);
  }
  CHECK(!code_architecture("native", 90));
  CHECK(!code_architecture("80-fast", 90));
}

TEST(code_architecture_is_explained_where_something_is_lost) {
  using billfish::explain_code_architecture;
  CHECK(explain_code_architecture(90, 90).empty());
  CHECK(explain_code_architecture(90, 100).empty());
  CHECK(explain_code_architecture(80, 86).empty());
  CHECK_COMPLAINT(explain_code_architecture(80, 90), "runs its code for compute capability 8.0");
  CHECK_COMPLAINT(explain_code_architecture(80, 120), "BILLFISH_CUDA_ARCHITECTURES=120");
  CHECK_COMPLAINT(explain_code_architecture(0, 75), "no code that runs on compute capability 7.5");
}

namespace billfish::BILLFISH_TARGET {

// Pretends, while it lives, that the kernels of an emulated device were compiled for an older architecture; streams and
// backends are made within that time.
class PretendedCode {
 public:
  PretendedCode(int index, int architecture) : index_(index), before_(emulator::device(index).code_architecture) {
    set(architecture);
  }
  ~PretendedCode() { set(before_); }
  PretendedCode(const PretendedCode&) = delete;
  PretendedCode& operator=(const PretendedCode&) = delete;

 private:
  void set(int architecture) const {
    emulator::device(index_).code_architecture = architecture;
    Device::at(index_).properties_.code_architecture = architecture;
  }
  int index_, before_;
};
namespace {

// Writes before it may, where it begins early.
struct WriteAfterWait {
  static constexpr int max_threads = 32;
  Global<float> out;
  DEVICE void operator()() const {
    wait_for_previous_grid();
    out[thread_index().x] = 1;
  }
};

std::string write_after_wait(Stream& stream) {
  const DeviceMemory out(stream.device(), 32 * sizeof(float));
  return launch_complaint(stream, {.block = {32}, .programmatic = true}, WriteAfterWait{out.as<float>()});
}

}  // namespace

TEST(code_for_an_older_architecture_runs_no_kernels_that_it_lacks) {
  in_every_schedule([] {
    const PretendedCode code(0, 80);
    Device& device = Device::at(0);
    CHECK(device.properties().compute_capability == 90);
    CHECK(machine_of(device).kernels == GemmKernels::staged);
    CHECK(machine_of(device).memory_rate == 30);  // the device's own
    Stream stream(device);
    CHECK(!stream.overlaps_grids());
    CHECK(write_after_wait(stream).empty());
    self_test(0);
  });
  CHECK(machine_of(Device::at(0)).kernels == GemmKernels::both);
}

// What the choice protects from: a grid that cannot wait, begun early.
TEST(emulator_catches_overlapping_grids_of_code_that_cannot_wait) {
  Stream stream(Device::at(0));  // made for what the device is capable of
  CHECK(write_after_wait(stream).empty());
  const PretendedCode code(0, 80);
  CHECK(stream.overlaps_grids());
  CHECK_COMPLAINT(write_after_wait(stream), "wait_for_previous_grid");
}

TEST(cuda_pdl_switches_overlapping_grids) {
  CHECK(Stream(Device::at(0)).overlaps_grids());
  CHECK(!Stream(Device::at(8)).overlaps_grids());  // an Ampere
  {
    const Variable off("BILLFISH_CUDA_PDL", "off");
    CHECK(!Stream(Device::at(0)).overlaps_grids());
  }
  {
    const Variable on("BILLFISH_CUDA_PDL", "on");
    CHECK(Stream(Device::at(0)).overlaps_grids());
    CHECK(!Stream(Device::at(8)).overlaps_grids());
  }
  const Variable wrong("BILLFISH_CUDA_PDL", "no");
  CHECK_COMPLAINT(complaint([] { Stream stream(Device::at(0)); }), "BILLFISH_CUDA_PDL is 'no'; it must be on or off");
}

}  // namespace billfish::BILLFISH_TARGET
