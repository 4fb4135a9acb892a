// A stage of several ranks on emulated devices: decode steps that are replayed part by part, and steps that end
// half-way.
#include "support/rank_stage.h"

#include <utility>

#include "runtime/queue.h"

using namespace rank_stage;
using billfish::emulated::launch_counts;

TEST(device_ranks_replay_the_parts_of_their_steps) {
  const auto stage = make_stage();
  const auto graphs = [&](int32_t count, int32_t first_token) {
    const uint64_t launched = launch_counts().graphs, recorded = launch_counts().recorded;
    run_well(*stage, count, first_token);
    return std::pair{launch_counts().graphs - launched, launch_counts().recorded - recorded};
  };
  using Counts = std::pair<uint64_t, uint64_t>;
  CHECK((graphs(3, 0) == Counts{0, 0}));  // the first of its kind
  const auto [launched, recorded] = graphs(4, 1);
  CHECK(launched == ranks * parts);
  CHECK(recorded > launched);
  for (int32_t i = 0; i < 10; ++i) CHECK((graphs(3 + i % 2, i) == Counts{ranks * parts, 0}));
  CHECK((graphs(1, 0) == Counts{0, 0}));
}

TEST(device_ranks_run_as_they_are_without_graphs) {
  const Variable off("BILLFISH_CUDA_GRAPHS", "off");
  const auto stage = make_stage();
  const uint64_t launched = launch_counts().graphs;
  for (int32_t i = 0; i < 4; ++i) run_well(*stage, 3, i);
  CHECK(launch_counts().graphs == launched);
}

// Some steps are aborted before they begin, some between two parts, some while they are recorded.
TEST(device_ranks_go_on_after_steps_that_were_aborted) {
  const auto stage = make_stage();
  int aborted = 0;
  for (int32_t turn = 0; turn < 60; ++turn) {
    Step step;
    fill_decode(step, 1 + turn % 8, turn);
    const std::string code = run_and_cancel(*stage, step, turn * 40);
    if (!code.empty()) CHECK(code == "ABORTED");
    aborted += code == "ABORTED";
    if (code == "") check_logits(step);
    if (turn % 3 == 0) run_well(*stage, 1 + turn % 8, turn);
  }
  CHECK(aborted > 0);
}

// What fails in a rank's graph is told of the step, and the next one is as ever.
TEST(device_ranks_go_on_after_a_graph_that_failed) {
  const auto stage = make_stage();
  for (int32_t i = 0; i < 3; ++i) run_well(*stage, 2, i);
  for (int32_t i = 0; i < 3; ++i) {
    Step wrong;
    fill_decode(wrong, 2, i);
    wrong.batch.logit_rows[1] = 1'000'000;  // which the pipeline would refuse
    const uint64_t launched = launch_counts().graphs;
    CHECK(run(*stage, wrong) == "INTERNAL");
    CHECK(launch_counts().graphs > launched);
    run_well(*stage, 2, i);
  }
}
