// Ranks of one stage: barriers, collectives, and steps that one of them fails.
#include "engine/rank_group.h"

#include <atomic>
#include <random>
#include <thread>

#include "cpu/cpu_backend.h"
#include "cpu/operators.h"
#include "engine/error.h"
#include "engine/stage.h"
#include "support/check.h"

using namespace billfish;

namespace {

constexpr int ranks = 3;
constexpr int64_t hidden = 40, rows_a_rank = 5, vocabulary = 14;  // 15 with padding

Value value(int64_t width, ValueClass kind, RowKind rows = RowKind::tokens) { return {width, rows, kind, no_value, 0}; }

std::vector<float> random_table() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> table(static_cast<size_t>(ranks * rows_a_rank * hidden));
  for (float& v : table) v = normal(random);
  return table;
}

// Token embeddings, and their products with all embeddings, cut along the vocabulary.
std::unique_ptr<Stage> make_rank(int rank, const std::shared_ptr<RankGroup>& group) {
  Program program;
  program.values = {value(hidden, ValueClass::residual), value(hidden, ValueClass::residual),
                    value(hidden, ValueClass::residual, RowKind::logits),
                    value(rows_a_rank, ValueClass::logits, RowKind::logits)};
  AllGather gather{3, no_value, {}};
  for (int32_t other = 0; other < ranks; ++other) {
    gather.pieces.push_back({other, 0, other * rows_a_rank, std::min(rows_a_rank, vocabulary - other * rows_a_rank)});
  }
  program.output = 3;
  if (rank == 0) {
    program.values.push_back(value(vocabulary, ValueClass::logits, RowKind::logits));
    gather.out = program.output = 4;
  }
  program.operators = {Embedding{0, 0, rank * rows_a_rank}, AllReduce{0, 1}, Gather{1, 2}, Linear{2, {{0, 3}}}, gather};
  StageLimits limits;
  limits.max_rows = 8;
  limits.max_logit_rows = 2;  // fewer than rows: the head is computed in pieces
  limits.block_size = 4;
  limits.block_count = 4;
  cpu::CpuOptions options;
  options.device = "cpu:" + std::to_string(rank);
  auto stage = std::make_unique<Stage>(cpu::make_cpu_backend(options), program,
                                       std::vector<WeightShape>{{"table", WeightKind::matrix, rows_a_rank, hidden}},
                                       limits, StageRank{group, rank});
  auto table = stage->backend().make_matrix(rows_a_rank, hidden, DType::f32, {});
  stage->backend().fill_matrix(*table, 0, rows_a_rank, random_table().data() + rank * rows_a_rank * hidden);
  stage->set_weight(0, std::move(table));
  return stage;
}

std::unique_ptr<Stage> make_stage() {
  const auto group = std::make_shared<RankGroup>(ranks);
  auto first = make_rank(0, group);
  std::vector<std::unique_ptr<Stage>> workers;
  for (int rank = 1; rank < ranks; ++rank) workers.push_back(make_rank(rank, group));
  first->attach_workers(std::move(workers));
  return first;
}

void fill(Step& step, std::vector<int32_t> tokens) {
  step.batch.tokens = std::move(tokens);
  for (size_t i = 0; i < step.batch.tokens.size(); ++i) {
    step.batch.positions.push_back(static_cast<int32_t>(i));
    step.batch.logit_rows.push_back(static_cast<int32_t>(i));
  }
  step.batch.block_tables = {0, 1};
  step.batch.sequences = {{0, static_cast<int32_t>(step.batch.tokens.size()), 0, step.batch.block_tables.data(), 2}};
  step.sampling.resize(step.batch.tokens.size());
  step.want_logits = true;
}

}  // namespace

TEST(ranks_compute_what_one_would) {
  const auto stage = make_stage();
  const std::vector<float> table = random_table();
  for (int run = 0; run < 50; ++run) {
    Step step;
    fill(step, {13, run % static_cast<int32_t>(vocabulary), 0, 7, 4});
    stage->run(step);
    CHECK(step.result.logits.size() == 5 * vocabulary);
    for (size_t r = 0; r < 5; ++r) {
      for (int64_t n = 0; n < vocabulary; ++n) {
        double expected = 0;
        for (int64_t k = 0; k < hidden; ++k) {
          expected += static_cast<double>(table[step.batch.tokens[r] * hidden + k]) * table[n * hidden + k];
        }
        const float got = step.result.logits[r * vocabulary + static_cast<size_t>(n)];
        CHECK_MESSAGE(std::abs(got - expected) < 1e-4, got << " instead of " << expected);
      }
    }
  }
}

TEST(ranks_go_on_after_a_step_that_was_cancelled) {
  const auto stage = make_stage();
  for (int run = 0; run < 200; ++run) {
    Step step;
    fill(step, {1, 2, 3, 4, 5, 6, 7});
    std::thread canceller([&] {
      for (int spin = 0; spin < run * 20; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
      if (run % 2 == 0) step.cancelled = true;
    });
    try {
      stage->run(step);
      CHECK(step.result.logits.size() == 7 * vocabulary);
    } catch (const Error& error) {
      CHECK(run % 2 == 0);
      CHECK(error.code() == "ABORTED");
    }
    canceller.join();
  }
}

TEST(ranks_meet_until_one_gives_up) {
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
  auto first = make_rank(0, group);
  std::vector<std::unique_ptr<Stage>> workers;
  workers.push_back(make_rank(1, group));
  CHECK_THROWS(first->attach_workers(std::move(workers)), "INTERNAL");  // the first takes from a third rank
}
