// A tiny model for tests of the engine: one layer over two stages.
#pragma once
#include <cmath>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backends.h"
#include "engine/pipeline.h"

namespace billfish {

constexpr int32_t vocabulary = 50, hidden = 32, heads = 2, head_dim = 16;

// A model of one layer over two stages: [embedding, attention] -> [norm, head]. Weights are seeded random numbers.
class TinyModel {
 public:
  using MakeBackend = std::function<std::unique_ptr<Backend>(const std::string& device)>;

  static std::unique_ptr<Backend> plain_backend(const std::string& device) {
    return make_backend(device, {true, DType::f32});
  }

  // `handed_over`: where the wanted rows are gathered, in the second stage or before they leave the first one.
  explicit TinyModel(StageLimits limits = {4, 16, 12, 4}, MakeBackend make = plain_backend,
                     RowKind handed_over = RowKind::tokens)
      : limits(limits), make_(std::move(make)), handed_over_(handed_over) {
    std::vector<std::unique_ptr<Stage>> stages;
    stages.push_back(first_stage());
    stages.push_back(second_stage());
    pipeline = std::make_unique<Pipeline>(std::move(stages), limits, vocabulary);
    pipeline->start();
  }

  // A step of one sequence: `tokens` behind `past` cached ones, with the blocks 0, 1, 2, ... from `first_block` on.
  std::shared_ptr<Step> step(std::vector<int32_t> tokens, int32_t past, int32_t first_block, int32_t blocks) {
    auto step = std::make_shared<Step>();
    Batch& batch = step->batch;
    for (size_t i = 0; i < tokens.size(); ++i) batch.positions.push_back(past + static_cast<int32_t>(i));
    for (int32_t i = 0; i < blocks; ++i) batch.block_tables.push_back(first_block + i);
    batch.sequences.push_back({0, static_cast<int32_t>(tokens.size()), past, batch.block_tables.data(), blocks, 0});
    batch.logit_rows = {static_cast<int32_t>(tokens.size()) - 1};
    batch.tokens = std::move(tokens);
    step->sampling.resize(1);
    step->want_logits = true;
    return step;
  }

  std::future<std::shared_ptr<Step>> submit(const std::shared_ptr<Step>& step) {
    auto promise = std::make_shared<std::promise<std::shared_ptr<Step>>>();
    step->done = [promise](std::shared_ptr<Step> finished) { promise->set_value(std::move(finished)); };
    pipeline->check(*step);
    pipeline->submit(step);
    return promise->get_future();
  }

  StageLimits limits;
  std::unique_ptr<Pipeline> pipeline;

 private:
  std::unique_ptr<Weight> matrix(Backend& backend, int64_t out, int64_t in, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(in)));
    std::vector<float> values(out * in);
    for (float& value : values) value = normal(random);
    auto weight = backend.make_matrix(out, in, DType::f32, {});
    backend.fill_matrix(*weight, 0, out, values.data());
    return weight;
  }

  static Value value(int64_t width, ValueClass kind, RowKind rows = RowKind::tokens) {
    return {width, rows, kind, no_value, 0};
  }
  static constexpr ValueClass residual = ValueClass::residual, activation = ValueClass::activation;

  MakeBackend make_;
  RowKind handed_over_;

  std::unique_ptr<Stage> first_stage() {
    Program program;
    program.values = {value(hidden, residual), value(hidden, activation), value(hidden, activation),
                      value(hidden, activation), value(hidden, activation)};
    program.cache_layers = {{heads, head_dim}};
    program.operators = {Embedding{0, 0},
                         Linear{0, {{1, 1}}},
                         Linear{0, {{2, 2}}},
                         Linear{0, {{3, 3}}},
                         Attention{1, 2, 3, 4, 0, heads, 0.25f, 0},
                         Add{0, 4}};
    program.output = 0;
    program.hands_over = true;
    if (handed_over_ == RowKind::logits) {
      program.output = 5;
      program.values.push_back(value(hidden, residual, RowKind::logits));
      program.operators.push_back(Gather{0, 5});
    }
    std::vector<WeightShape> shapes = {{"embed", WeightKind::matrix, vocabulary, hidden},
                                       {"q", WeightKind::matrix, hidden, hidden},
                                       {"k", WeightKind::matrix, hidden, hidden},
                                       {"v", WeightKind::matrix, hidden, hidden}};
    auto stage = std::make_unique<Stage>(make_("cpu:0"), program, shapes, limits);
    for (size_t i = 0; i < shapes.size(); ++i) {
      stage->set_weight(i, matrix(stage->backend(), shapes[i].out, shapes[i].in, static_cast<unsigned>(i)));
    }
    stage->backend().finish_loading();
    return stage;
  }

  std::unique_ptr<Stage> second_stage() {
    Program program;
    program.values = {value(hidden, residual), value(hidden, residual, RowKind::logits),
                      value(hidden, activation, RowKind::logits),
                      value(vocabulary, ValueClass::logits, RowKind::logits)};
    program.input = 0;
    program.operators = {Gather{0, 1}, RmsNorm{1, 0, hidden, 1e-6f, 2}, Linear{2, {{1, 3}}}};
    if (handed_over_ == RowKind::logits) {
      program.values[0].rows = RowKind::logits;
      program.operators = {RmsNorm{0, 0, hidden, 1e-6f, 2}, Linear{2, {{1, 3}}}};
    }
    program.output = 3;
    std::vector<WeightShape> shapes = {{"norm", WeightKind::vector, hidden, 1},
                                       {"head", WeightKind::matrix, vocabulary, hidden}};
    auto stage = std::make_unique<Stage>(make_("cpu:1"), program, shapes, limits);
    stage->set_weight(0, stage->backend().make_vector(std::vector<float>(hidden, 1)));
    stage->set_weight(1, matrix(stage->backend(), vocabulary, hidden, 9));
    stage->backend().finish_loading();
    return stage;
  }
};

}  // namespace billfish

// The tiny model on two emulated devices.
namespace emulated_model {

constexpr billfish::StageLimits limits = {16, 8, 12, 4};

// A model on two devices of these numbers.
inline billfish::TinyModel::MakeBackend on(int first, int second) {
  return [first, second](const std::string& device) {
    const std::string name = "emulated:" + std::to_string(device == "cpu:0" ? first : second);
    return billfish::make_backend(name, {false, billfish::DType::f16, billfish::DType::f16});
  };
}

inline std::shared_ptr<billfish::Step> run(billfish::TinyModel& model) {
  return model.submit(model.step({1, 2, 3}, 0, 3, 2)).get();
}

}  // namespace emulated_model
