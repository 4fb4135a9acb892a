// Ranks of one stage: barriers, collectives, and steps that one of them fails.
#include "engine/rank_group.h"

#include <atomic>
#include <thread>

#include "engine/error.h"
#include "support/rank_stage.h"

using namespace billfish;
using namespace rank_stage;

// Fewer logit rows than rows: the head is computed in pieces.
static const Ranks cpu_ranks{"cpu", {4, 4, 8, 2}};

TEST(ranks_compute_what_one_would) {
  const auto stage = make_stage(cpu_ranks);
  for (int32_t turn = 0; turn < 50; ++turn) {
    Step step;
    fill_prompt(step, {13, turn % static_cast<int32_t>(vocabulary), 0, 7, 4});
    CHECK(run(*stage, step) == "");
    check_logits(step, 1e-4);
  }
}

TEST(ranks_go_on_after_a_step_that_was_cancelled) {
  const auto stage = make_stage(cpu_ranks);
  check_after_cancelled_steps(*stage, [](const Step& step) { check_logits(step, 1e-4); });
}

TEST(ranks_pass_barriers_until_one_fails) {
  RankGroup group(4);
  for (int round = 0; round < 20; ++round) {
    group.begin();
    std::atomic<int> passed{0}, refused{0};
    std::vector<std::thread> threads;
    for (int rank = 0; rank < 4; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          for (int i = 0; i < 100; ++i) {
            if (rank == 2 && i == round * 5) throw Error("OUT_OF_MEMORY", "the reason");
            group.barrier();
            ++passed;
          }
        } catch (const Error& error) {
          refused += error.code() == "ABORTED";
          group.fail(std::current_exception());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    // A barrier that all reached has passed for all, however soon one fails after it.
    CHECK(passed.load() == 4 * round * 5);
    CHECK(refused.load() == 3);
    CHECK_THROWS(group.end(), "OUT_OF_MEMORY");
  }
}

TEST(ranks_that_do_not_fit_together_are_refused) {
  const auto group = std::make_shared<RankGroup>(2);
  auto first = make_rank(0, group, cpu_ranks);
  std::vector<std::unique_ptr<Stage>> workers;
  workers.push_back(make_rank(1, group, cpu_ranks));
  CHECK_THROWS(first->attach_workers(std::move(workers)), "INTERNAL");  // the first takes from a third rank
}
