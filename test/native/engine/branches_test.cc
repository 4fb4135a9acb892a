// A stage and its branches: operators of some layers on another device, with which it meets twice a layer.
#include <cmath>
#include <limits>

#include "engine/link.h"
#include "support/rank_stage.h"

using namespace billfish;
using namespace rank_stage;

namespace {

struct Devices {
  std::string stage = "cpu";
  std::vector<std::string> branches = {"cpu:1"};
  StageLimits limits = {4, 4, 8, 2};
  bool last_has_wanted_rows = false;  // the last branch gets only the rows whose logits are wanted
};

// Of branch number `link`.
RowKind rows_on(const Devices& on, size_t link) {
  return on.last_has_wanted_rows && link + 1 == on.branches.size() ? RowKind::logits : RowKind::tokens;
}

// Of [hidden, hidden], those of branch number `seed`.
std::vector<float> branch_matrix(unsigned seed) {
  std::mt19937 random(seed + 2);
  std::normal_distribution<float> normal(0, 0.1f);
  std::vector<float> matrix(static_cast<size_t>(hidden * hidden));
  for (float& v : matrix) v = f16_to_float(float_to_f16(normal(random)));
  return matrix;
}

std::unique_ptr<Stage> loaded(const std::string& device, const Program& program, const StageLimits& limits, int rank,
                              const char* name, int64_t out, const std::vector<float>& rows) {
  auto stage = std::make_unique<Stage>(make_backend(device, {}), program,
                                       std::vector<WeightShape>{{name, WeightKind::matrix, out, hidden}}, limits,
                                       StageRank{{}, rank});
  auto weight = stage->backend().make_matrix(out, hidden, DType::f32, {});
  stage->backend().fill_matrix(*weight, 0, out, rows.data());
  stage->backend().finish_loading();
  stage->set_weight(0, std::move(weight));
  return stage;
}

// x = table[token]; for each branch: x += its matrix * x, whose place in the buffer is behind that of its input. Then
// the products with the table.
std::unique_ptr<Stage> stage_without_branches(const Devices& on) {
  Program program;
  program.values = {value(hidden, ValueClass::residual), value(hidden, ValueClass::residual, RowKind::logits),
                    value(vocabulary, ValueClass::logits, RowKind::logits)};
  program.operators = {Embedding{0, 0}};
  ValueId x = 0;
  const auto gather = [&] {
    program.operators.push_back(Gather{0, 1});
    x = 1;
  };
  for (int32_t link = 0; link < static_cast<int32_t>(on.branches.size()); ++link) {
    const RowKind rows = rows_on(on, static_cast<size_t>(link));
    if (rows == RowKind::logits) gather();
    const auto received = static_cast<ValueId>(program.values.size());
    program.values.push_back(value(hidden, ValueClass::activation, rows));
    program.operators.push_back(Send{x, link, 0});
    program.operators.push_back(Receive{received, link, hidden});
    program.operators.push_back(Add{x, received});
  }
  if (x == 0) gather();
  program.operators.push_back(Linear{1, {{0, 2}}});
  program.output = 2;
  std::vector<float> table = random_table();
  table.resize(static_cast<size_t>(vocabulary * hidden));
  return loaded(on.stage, program, on.limits, 0, "table.weight", vocabulary, table);
}

std::unique_ptr<Stage> make_branch(const Devices& on, unsigned number, const std::vector<float>& matrix,
                                   int64_t answer_at = hidden) {
  Program program;
  const Value rows = value(hidden, ValueClass::activation, rows_on(on, number));
  program.values = {rows, rows};
  program.operators = {Receive{0, 0, 0}, Linear{0, {{0, 1}}}, Send{1, 0, answer_at}};
  const int rank = 1 + static_cast<int>(number);
  return loaded(on.branches[number], program, on.limits, rank, "branch.weight", hidden, matrix);
}

std::unique_ptr<Stage> make_stage_with_branches(const Devices& on) {
  auto stage = stage_without_branches(on);
  std::vector<std::unique_ptr<Stage>> branches;
  for (unsigned i = 0; i < on.branches.size(); ++i) branches.push_back(make_branch(on, i, branch_matrix(i)));
  stage->attach_branches(std::move(branches));
  return stage;
}

void check_logits_of(const Devices& on, const Step& step, double tolerance) {
  const std::vector<float> table = random_table();
  CHECK(step.result.logits.size() == step.batch.logit_rows.size() * vocabulary);
  for (size_t r = 0; r < step.batch.logit_rows.size(); ++r) {
    const int64_t token = step.batch.tokens[static_cast<size_t>(step.batch.logit_rows[r])];
    std::vector<double> x(table.begin() + token * hidden, table.begin() + (token + 1) * hidden);
    for (unsigned branch = 0; branch < on.branches.size(); ++branch) {
      const std::vector<float> matrix = branch_matrix(branch);
      std::vector<double> sum = x;
      for (int64_t i = 0; i < hidden; ++i) {
        for (int64_t k = 0; k < hidden; ++k) sum[i] += matrix[i * hidden + k] * x[k];
      }
      x = sum;
    }
    for (int64_t n = 0; n < vocabulary; ++n) {
      double expected = 0;
      for (int64_t k = 0; k < hidden; ++k) expected += x[k] * table[n * hidden + k];
      const float got = step.result.logits[r * vocabulary + static_cast<size_t>(n)];
      CHECK_MESSAGE(std::abs(got - expected) < tolerance, got << " instead of " << expected);
    }
  }
}

void check_steps(const Devices& on, double tolerance) {
  const auto stage = make_stage_with_branches(on);
  CHECK(stage->companions().size() == on.branches.size());
  for (int32_t turn = 0; turn < 4; ++turn) {
    Step prompt;
    fill_prompt(prompt, {13, turn, 0, 7, 4});
    CHECK(run(*stage, prompt) == "");
    check_logits_of(on, prompt, tolerance);
    for (const std::vector<int32_t>& wanted : {std::vector<int32_t>{}, {4}, {0, 2, 3}}) {
      Step piece;
      fill_prompt(piece, {turn, 9, 21, 2, 5});
      piece.batch.logit_rows = wanted;
      piece.sampling.resize(wanted.size());
      CHECK(run(*stage, piece) == "");
      check_logits_of(on, piece, tolerance);
    }
    Step decode;  // recorded with four rows where steps are recorded
    fill_decode(decode, 3, turn);
    CHECK(run(*stage, decode) == "");
    check_logits_of(on, decode, tolerance);
  }
}

void check_search_finds(Stage& stage, const std::string& what, const std::string& device) {
  for (int turn = 0; turn < 3; ++turn) {
    Step step;
    fill_prompt(step, {1, 2, 3});
    step.search = true;
    try {
      stage.run(step);
      CHECK(false);
    } catch (const Error& error) {
      const std::string message = error.what();
      CHECK(error.code() == "NON_FINITE");
      CHECK_MESSAGE(message.starts_with("The output of branch is " + what), message);
      CHECK(message.find("(on " + device + ")") != std::string::npos);
    }
  }
}

}  // namespace

TEST(a_stage_and_its_branches_compute_what_one_device_would) {
  check_steps({}, 2e-3);
  check_steps({"cpu", {"cpu:1", "cpu"}}, 2e-3);
}

TEST(a_branch_may_compute_for_the_wanted_rows_alone) {
  check_steps({"cpu", {"cpu:1"}, {4, 4, 8, 2}, true}, 2e-3);
  check_steps({"cpu", {"cpu:1", "cpu"}, {4, 4, 8, 2}, true}, 2e-3);
  check_steps({"emulated:0", {"cpu", "emulated:1"}, {4, 16, 16, 16}, true}, 0.2);
  check_steps({"cpu", {"cpu", "emulated:0"}, {4, 16, 16, 3}, true}, 0.2);
}

TEST(branches_may_be_on_devices_of_another_kind) {
  check_steps({"emulated:0", {"cpu"}, {4, 16, 16, 16}}, 0.1);
  check_steps({"cpu", {"emulated:0"}, {4, 16, 16, 16}}, 0.1);
  check_steps({"emulated:0", {"emulated:1", "cpu", "emulated:0"}, {4, 16, 16, 16}}, 0.2);
}

// The branch has a rank of its own, behind those of the stage.
static std::unique_ptr<Stage> make_ranks_with_branch(const Ranks& where, const std::string& device,
                                                     const std::vector<float>& matrix = branch_matrix(0)) {
  auto stage = make_stage(where);
  std::vector<std::string> devices(ranks, device);
  std::vector<std::unique_ptr<Stage>> branches;
  branches.push_back(make_branch({"", devices, where.limits}, ranks - 1, matrix));
  stage->attach_branches(std::move(branches));
  return stage;
}

TEST(a_branch_computes_for_all_ranks_of_its_stage) {
  const auto check = [](const Ranks& where, const std::string& device, double tolerance) {
    const auto stage = make_ranks_with_branch(where, device);
    CHECK(stage->companions().size() == ranks);
    for (int32_t turn = 0; turn < 4; ++turn) {
      Step prompt, decode;
      fill_prompt(prompt, {13, turn, 0, 7, 4});
      CHECK(run(*stage, prompt) == "");
      check_logits_of({"", {device}}, prompt, tolerance);
      fill_decode(decode, 3, turn);
      CHECK(run(*stage, decode) == "");
      check_logits_of({"", {device}}, decode, tolerance);
    }
  };
  check({"cpu", {4, 4, 8, 2}, true}, "cpu:3", 2e-3);
  check({"emulated", {4, 16, 16, 16}, true}, "cpu", 0.1);
  check({"emulated", {4, 16, 16, 16}, true}, "emulated:1", 0.1);
}

TEST(ranks_and_their_branch_go_on_after_a_step_that_was_cancelled) {
  const auto stage = make_ranks_with_branch({"cpu", {4, 4, 8, 2}, true}, "cpu:3");
  check_after_cancelled_steps(*stage, [](const Step& step) { check_logits_of({}, step, 2e-3); });
}

TEST(a_search_of_ranks_names_what_their_branch_has_found) {
  std::vector<float> damaged = branch_matrix(0);
  damaged[hidden + 3] = std::numeric_limits<float>::infinity();
  const auto stage = make_ranks_with_branch({"cpu", {4, 4, 8, 2}, true}, "cpu:3", damaged);
  check_search_finds(*stage, "-infinity", "cpu:3");
}

TEST(branches_go_on_after_a_step_that_was_cancelled) {
  const Devices on{"cpu", {"cpu:1", "cpu:2"}};
  const auto stage = make_stage_with_branches(on);
  check_after_cancelled_steps(*stage, [&](const Step& step) { check_logits_of(on, step, 2e-3); });
}

TEST(a_search_names_what_a_branch_has_found) {
  const Devices on{"cpu", {"cpu:1", "cpu:2"}};
  auto stage = stage_without_branches(on);
  std::vector<float> damaged = branch_matrix(1);
  damaged[hidden + 3] = std::numeric_limits<float>::infinity();
  std::vector<std::unique_ptr<Stage>> branches;
  branches.push_back(make_branch(on, 0, branch_matrix(0)));
  branches.push_back(make_branch(on, 1, damaged));
  stage->attach_branches(std::move(branches));
  check_search_finds(*stage, "infinity", "cpu:2");
}

TEST(branches_that_do_not_fit_their_stage_are_refused) {
  const Devices on;
  CHECK_THROWS(stage_without_branches(on)->attach_branches({}), "INTERNAL");
  std::vector<std::unique_ptr<Stage>> branches;
  branches.push_back(make_branch(on, 0, branch_matrix(0), hidden + 1));  // the stage looks for the answer elsewhere
  CHECK_THROWS(stage_without_branches(on)->attach_branches(std::move(branches)), "INTERNAL");
  branches.clear();
  branches.push_back(make_branch(on, 0, branch_matrix(0)));  // of all rows
  const Devices wanted_alone{on.stage, on.branches, on.limits, true};
  CHECK_THROWS(stage_without_branches(wanted_alone)->attach_branches(std::move(branches)), "INTERNAL");
}

TEST(a_rank_of_several_groups_reports_why_one_of_them_failed) {
  RankGroup one(2), other(2);
  one.begin();
  other.begin();
  other.fail(std::make_exception_ptr(Error("OUT_OF_MEMORY", "the reason")));
  CHECK_THROWS(other.barrier(), "ABORTED");
  one.fail(std::make_exception_ptr(Error("ABORTED", "another one failed")));
  CHECK_THROWS(end_all({&one, &other}), "OUT_OF_MEMORY");
  one.begin();
  other.begin();
  end_all({&one, &other});
}
