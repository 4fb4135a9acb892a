#include "engine/warm_up.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <numeric>
#include <optional>

namespace billfish {
namespace {

bool is_wanted(Pipeline& pipeline) {
  const auto wanted = [](const Stage& stage) { return stage.backend().wants_warm_up(); };
  const auto& stages = pipeline.stages();
  return std::any_of(stages.begin(), stages.end(), [&](const auto& stage) {
    const std::vector<Stage*> companions = stage->companions();
    return wanted(*stage) ||
           std::any_of(companions.begin(), companions.end(), [&](const Stage* one) { return wanted(*one); });
  });
}

// Tokens 0 after `past` others. From the last one's logits a token is sampled at this temperature, if the model has
// any.
std::shared_ptr<Step> make_step(const StageLimits& limits, int32_t past, int32_t rows,
                                std::optional<float> temperature) {
  auto step = std::make_shared<Step>();
  Batch& batch = step->batch;
  batch.tokens.assign(static_cast<size_t>(rows), 0);
  batch.positions.resize(static_cast<size_t>(rows));
  std::iota(batch.positions.begin(), batch.positions.end(), past);
  const int32_t blocks = (past + rows + limits.block_size - 1) / limits.block_size;
  batch.block_tables.resize(static_cast<size_t>(blocks));
  std::iota(batch.block_tables.begin(), batch.block_tables.end(), 0);
  batch.sequences.push_back({0, rows, past, batch.block_tables.data(), blocks, 0});
  batch.logit_rows = {rows - 1};
  step->sampling.resize(1);
  if (temperature) step->sampling[0].emplace().parameters.temperature = *temperature;
  return step;
}

void run(Pipeline& pipeline, const std::shared_ptr<Step>& step, const std::atomic<bool>& cancelled) {
  std::promise<void> done;
  step->done = [&](const std::shared_ptr<Step>&) { done.set_value(); };
  pipeline.check(*step);
  pipeline.submit(step);
  const std::future<void> is_done = done.get_future();
  constexpr auto often = std::chrono::milliseconds(20);
  while (is_done.wait_for(often) == std::future_status::timeout) {
    if (cancelled) step->cancelled = true;
  }
  if (step->error) throw Error(*step->error);  // not for damaged weights, which are reported to whoever uses them
}

}  // namespace

size_t warm_up(Pipeline& pipeline, const StageLimits& limits, const std::atomic<bool>& cancelled) {
  if (!is_wanted(pipeline)) return 0;
  // The first decode step of a kind runs as it is, the second one is recorded and replayed.
  constexpr int32_t decode_steps = 2;
  const auto prompt = static_cast<int32_t>(std::min<int64_t>(limits.max_rows, limits.positions() - decode_steps));
  if (prompt < 1) return 0;
  const bool draws = pipeline.stages().back()->gives_logits();
  size_t drawn = 0;
  for (int32_t number = 0; number <= decode_steps; ++number) {
    if (cancelled) throw Error("ABORTED", "Loading was aborted.");
    const bool is_prompt = number == 0;
    std::optional<float> temperature;
    if (draws) temperature = static_cast<float>(number % 2);  // greedily and by chance, in turn
    const auto step =
        is_prompt ? make_step(limits, 0, prompt, temperature) : make_step(limits, prompt + number - 1, 1, temperature);
    run(pipeline, step, cancelled);
    drawn += step->result.samples.size();
  }
  return drawn;
}

}  // namespace billfish
