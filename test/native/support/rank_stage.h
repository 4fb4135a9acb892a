// A stage of three ranks, for tests: token embeddings, to which a branch may add something, and their products with all
// embeddings, cut along the vocabulary.
#pragma once
#include <atomic>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backends.h"
#include "engine/error.h"
#include "engine/stage.h"
#include "support/check.h"

namespace rank_stage {

using namespace billfish;

constexpr int ranks = 3;
constexpr int64_t hidden = 40, rows_a_rank = 8, vocabulary = 22;  // 24 with padding
constexpr uint64_t parts = 2;  // of a rank's step: the embedding, and the head; sums and logits of all ranks lie behind

inline Value value(int64_t width, ValueClass kind, RowKind rows = RowKind::tokens) {
  return {width, rows, kind, no_value, 0};
}

inline std::vector<float> random_table() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> table(static_cast<size_t>(ranks * rows_a_rank * hidden));
  for (float& v : table) v = f16_to_float(float_to_f16(normal(random)));
  return table;
}

// Where the ranks are: on emulated:0, emulated:1, ... unless said otherwise.
struct Ranks {
  std::string device = "emulated";
  StageLimits limits = {4, 16, 16, 16};
  bool has_branch = false;
};

inline std::unique_ptr<Stage> make_rank(int rank, const std::shared_ptr<RankGroup>& group, const Ranks& where = {}) {
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
  program.operators = {Embedding{0, 0, rank * rows_a_rank}, AllReduce{0, 1}};
  if (where.has_branch) {
    const auto received = static_cast<ValueId>(program.values.size());
    program.values.push_back(value(hidden, ValueClass::activation));
    program.operators.insert(program.operators.end(), {Send{1, 0, 0}, Receive{received, 0, hidden}, Add{1, received}});
  }
  program.operators.insert(program.operators.end(), {Gather{1, 2}, Linear{2, {{0, 3}}}, gather});
  auto stage = std::make_unique<Stage>(make_backend(where.device + ":" + std::to_string(rank), {}), program,
                                       std::vector<WeightShape>{{"table", WeightKind::matrix, rows_a_rank, hidden}},
                                       where.limits, StageRank{group, rank});
  auto table = stage->backend().make_matrix(rows_a_rank, hidden, DType::f32, {});
  stage->backend().fill_matrix(*table, 0, rows_a_rank, random_table().data() + rank * rows_a_rank * hidden);
  stage->backend().finish_loading();
  stage->set_weight(0, std::move(table));
  return stage;
}

inline std::unique_ptr<Stage> make_stage(const Ranks& where = {}) {
  const auto group = std::make_shared<RankGroup>(ranks);
  auto first = make_rank(0, group, where);
  std::vector<std::unique_ptr<Stage>> workers;
  for (int rank = 1; rank < ranks; ++rank) workers.push_back(make_rank(rank, group, where));
  first->attach_workers(std::move(workers));
  return first;
}

// A step of one token for each of `count` sequences.
inline void fill_decode(Step& step, int32_t count, int32_t first_token) {
  Batch& batch = step.batch;
  for (int32_t i = 0; i < count; ++i) batch.block_tables.push_back(i);
  for (int32_t i = 0; i < count; ++i) {
    batch.tokens.push_back((first_token + 5 * i) % static_cast<int32_t>(vocabulary));
    batch.positions.push_back(0);
    batch.sequences.push_back({i, 1, 0, batch.block_tables.data() + i, 1, 0});
    batch.logit_rows.push_back(i);
  }
  step.sampling.resize(static_cast<size_t>(count));
  step.want_logits = true;
}

// One sequence's prompt, all of whose logits are wanted.
inline void fill_prompt(Step& step, std::vector<int32_t> tokens) {
  Batch& batch = step.batch;
  batch.tokens = std::move(tokens);
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.positions.push_back(static_cast<int32_t>(i));
    batch.logit_rows.push_back(static_cast<int32_t>(i));
  }
  batch.block_tables = {0, 1};
  batch.sequences = {{0, static_cast<int32_t>(batch.tokens.size()), 0, batch.block_tables.data(), 2, 0}};
  step.sampling.resize(batch.tokens.size());
  step.want_logits = true;
}

inline void check_logits(const Step& step, double tolerance = 1e-3) {
  static const std::vector<float> table = random_table();
  const std::vector<int32_t>& tokens = step.batch.tokens;
  CHECK(step.result.logits.size() == tokens.size() * vocabulary);
  for (size_t r = 0; r < tokens.size(); ++r) {
    for (int64_t n = 0; n < vocabulary; ++n) {
      double expected = 0;
      for (int64_t k = 0; k < hidden; ++k) {
        expected += static_cast<double>(table[static_cast<size_t>(tokens[r] * hidden + k)]) *
                    table[static_cast<size_t>(n * hidden + k)];
      }
      const float got = step.result.logits[r * vocabulary + static_cast<size_t>(n)];
      CHECK_MESSAGE(std::abs(got - expected) < tolerance, got << " instead of " << expected);
    }
  }
}

// The error's code, "" for none.
inline std::string run(Stage& stage, Step& step) {
  try {
    if (const auto work = stage.run(step)) work->settle();
    return "";
  } catch (const Error& error) {
    stage.backend().drain();
    return error.code();
  }
}

// The same for a step that another thread cancels after so many turns of an empty loop.
inline std::string run_and_cancel(Stage& stage, Step& step, int spins) {
  std::thread canceller([&] {
    for (int spin = 0; spin < spins; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    step.cancelled = true;
  });
  std::string code = run(stage, step);
  canceller.join();
  return code;
}

// Steps of which every second one is cancelled, sooner or later: those that end well satisfy `check`.
template <class Check>
void check_after_cancelled_steps(Stage& stage, const Check& check) {
  for (int turn = 0; turn < 200; ++turn) {
    Step step;
    fill_prompt(step, {1, 2, 3, 4, 5, 6, 7});
    const bool cancelled = turn % 2 == 0;
    const std::string code = cancelled ? run_and_cancel(stage, step, turn * 20) : run(stage, step);
    if (code.empty()) {
      check(step);
    } else {
      CHECK(cancelled);
      CHECK(code == "ABORTED");
    }
  }
}

inline void run_well(Stage& stage, int32_t count, int32_t first_token) {
  Step step;
  fill_decode(step, count, first_token);
  CHECK(run(stage, step) == "");
  check_logits(step);
}

}  // namespace rank_stage
