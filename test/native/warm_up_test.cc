// The first steps, which loading ends with.
#include "engine/warm_up.h"

#include "backends.h"
#include "kernel_testing.h"
#include "runtime/queue.h"
#include "tiny_model.h"
#include "variable.h"

namespace billfish::BILLFISH_TARGET {
namespace {

constexpr StageLimits limits = {16, 8, 12, 4};

// A model on two devices of these numbers.
TinyModel::MakeBackend on(int first, int second) {
  return [first, second](const std::string& device) {
    const std::string name = "emulated:" + std::to_string(device == "cpu:0" ? first : second);
    return billfish::make_backend(name, {false, DType::f16, DType::f16});
  };
}

std::shared_ptr<Step> run(TinyModel& model) { return model.submit(model.step({1, 2, 3}, 0, 3, 2)).get(); }

}  // namespace

// Steps that come first load, prepare and record; loading ends with some, of no sequence.
TEST(warm_up_runs_a_prompt_and_decode_steps_where_a_backend_wants_them) {
  const std::atomic<bool> not_cancelled = false;
  const auto launches = [&](TinyModel& model) {
    const uint64_t before = launch_counts().kernels;
    warm_up(*model.pipeline, limits, not_cancelled);
    return launch_counts().kernels - before;
  };
  TinyModel cold(limits, on(0, 1));
  CHECK(launches(cold) == 0);
  const Variable wanted("BILLFISH_EMULATED_WARM_UP", "on");
  const uint64_t recorded = launch_counts().recorded, graphs = launch_counts().graphs;
  TinyModel warm(limits, on(0, 1));
  CHECK(launches(warm) > 10);
  CHECK(launch_counts().recorded > recorded && launch_counts().graphs == graphs + 2);  // one a stage
  CHECK(run(warm)->result.logits == run(cold)->result.logits);
  const std::atomic<bool> cancelled = true;
  CHECK_THROWS(warm_up(*warm.pipeline, limits, cancelled), "ABORTED");
  // Room for no more than a decode step: nothing to run.
  TinyModel tiny({2, 1, 12, 4}, on(0, 1));
  warm_up(*tiny.pipeline, {2, 1, 12, 4}, not_cancelled);
}

TEST(warm_up_tells_what_fails) {
  const Variable wanted("BILLFISH_EMULATED_WARM_UP", "on");
  TinyModel model(limits, on(0, 15));
  Device::at(15).lose("an injected failure");
  const std::atomic<bool> not_cancelled = false;
  CHECK_THROWS(warm_up(*model.pipeline, limits, not_cancelled), "DEVICE_LOST");
}

}  // namespace billfish::BILLFISH_TARGET
