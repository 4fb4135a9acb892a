// The first steps, which loading ends with.
#include "engine/warm_up.h"

#include "runtime/queue.h"
#include "support/kernel_testing.h"
#include "support/tiny_model.h"

namespace billfish::BILLFISH_TARGET {
using emulated_model::limits, emulated_model::on, emulated_model::run;

// Steps that come first load, prepare and record; loading ends with some, of no sequence.
TEST(warm_up_runs_a_prompt_and_decode_steps_where_a_backend_wants_them) {
  const std::atomic<bool> not_cancelled = false;
  const auto launches = [&](TinyModel& model, size_t tokens) {
    const uint64_t before = launch_counts().kernels;
    CHECK(warm_up(*model.pipeline, limits, not_cancelled) == tokens);
    return launch_counts().kernels - before;
  };
  TinyModel cold(limits, on(0, 1));
  CHECK(launches(cold, 0) == 0);
  const Variable wanted("BILLFISH_EMULATED_WARM_UP", "on");
  const uint64_t recorded = launch_counts().recorded, graphs = launch_counts().graphs;
  TinyModel warm(limits, on(0, 1));
  CHECK(launches(warm, 3) > 10);  // one drawn by each step
  CHECK(launch_counts().recorded > recorded);
  CHECK(launch_counts().graphs == graphs + 2);  // one a stage
  CHECK(run(warm)->result.logits == run(cold)->result.logits);
  const std::atomic<bool> cancelled = true;
  CHECK_THROWS(warm_up(*warm.pipeline, limits, cancelled), "ABORTED");
  // Room for no more than a decode step: nothing to run.
  TinyModel tiny({2, 1, 12, 4}, on(0, 1));
  warm_up(*tiny.pipeline, {2, 1, 12, 4}, not_cancelled);
}

TEST(warm_up_reports_what_fails) {
  const Variable wanted("BILLFISH_EMULATED_WARM_UP", "on");
  TinyModel model(limits, on(0, 15));
  Device::at(15).mark_lost("an injected failure");
  const std::atomic<bool> not_cancelled = false;
  CHECK_THROWS(warm_up(*model.pipeline, limits, not_cancelled), "DEVICE_LOST");
}

}  // namespace billfish::BILLFISH_TARGET
