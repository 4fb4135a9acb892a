// The backend of devices, on emulated ones: a model over two of them beside the same on the CPU, loading from several
// threads, and what fails. The goldens run whole models there.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

#include "backends.h"
#include "engine/error.h"
#include "runtime/memory.h"
#include "support/check.h"
#include "support/kernel_testing.h"
#include "support/tiny_model.h"

using namespace billfish;
using emulated::Device;
using emulated::DeviceMemory;

namespace {

// TinyModel's devices are cpu:0 and cpu:1; here they are emulated.
std::unique_ptr<Backend> on_emulated(const std::string& device) {
  return make_backend("emulated" + device.substr(3), {false, DType::f16, DType::f16});
}
std::unique_ptr<Backend> second_on_emulated(const std::string& device) {
  return device == "cpu:1" ? on_emulated(device) : TinyModel::plain_backend(device);
}

constexpr StageLimits limits = {16, 8, 12, 4};

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK(a.size() == b.size());
  CHECK(!a.empty());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

std::vector<float> logits_of(TinyModel& model, std::vector<int32_t> tokens, int32_t past) {
  const auto step = model.submit(model.step(std::move(tokens), past, 3, 2)).get();
  CHECK_MESSAGE(!step->error, step->error->what());
  return step->result.logits;
}

// A quantized linear of random codes whose slabs are filled by `threads` threads.
constexpr int64_t out = 300, in = 256, group = 64;

CanonicalShape shape() {
  CanonicalShape shape;
  shape.name = "a linear";
  shape.out = out;
  shape.in = in;
  shape.group_size = group;
  shape.has_zero_points = shape.has_bias = shape.has_group_index = true;
  return shape;
}

CanonicalRows slab(int64_t first) {
  std::mt19937 random(static_cast<unsigned>(first));
  CanonicalRows rows;
  rows.first = first;
  rows.count = std::min(Backend::row_slab, out - first);
  for (int64_t i = 0; i < rows.count * in / 8; ++i) rows.codes.push_back(static_cast<uint32_t>(random()));
  for (int64_t i = 0; i < rows.count * in / group; ++i) {
    const uint16_t scale = float_to_f16(0.01f * static_cast<float>(1 + random() % 7));
    rows.scales.insert(rows.scales.end(), {static_cast<uint8_t>(scale & 0xff), static_cast<uint8_t>(scale >> 8)});
    rows.zeros.push_back(static_cast<uint8_t>(random() % 16));
  }
  for (int64_t i = 0; i < rows.count; ++i) rows.bias.push_back(static_cast<float>(random() % 5));
  return rows;
}

// The linear's outputs for `rows` times x = 1, 2, 3, ... / in.
std::vector<float> linear_filled_by(int threads, int32_t rows = 1) {
  Program program;
  program.values = {{in, RowKind::tokens, ValueClass::residual, no_value, 0},
                    {out, RowKind::tokens, ValueClass::logits, no_value, 0}};
  program.input = 0;
  program.operators = {Linear{0, {{0, 1}}}};
  program.output = 1;
  program.hands_over = true;
  Stage stage(make_backend("emulated:0", {}), program, {{"a linear", WeightKind::quantized, out, in, group, true}},
              {32, rows / 32 + 1, rows, 1});
  auto weight = stage.backend().make_quantized(shape());
  std::vector<std::thread> workers;
  std::atomic<int64_t> next = 0;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (int64_t first; (first = next.fetch_add(Backend::row_slab)) < out;) {
        stage.backend().fill_quantized(*weight, slab(first));
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  stage.backend().finish_loading();
  stage.set_weight(0, std::move(weight));

  const auto activation_buffers = std::make_shared<ActivationBuffers>();
  stage.join(activation_buffers);
  Step step;
  std::vector<int32_t> table;
  for (int32_t row = 0; row < rows; ++row) {
    step.batch.tokens.push_back(0);
    step.batch.positions.push_back(row);
    if (row % 32 == 0) table.push_back(row / 32);
  }
  step.batch.sequences = {{0, rows, 0, table.data(), static_cast<int32_t>(table.size()), 0}};
  stage.admit(step);
  for (int64_t i = 0; i < rows * in; ++i) step.hidden.data()[i] = static_cast<float>(i % in + 1) / in;
  stage.run(step);
  return {step.hidden.data(), step.hidden.data() + rows * out};
}

}  // namespace

TEST(device_backend_computes_what_the_cpu_computes) {
  TinyModel cpu(limits), devices(limits, on_emulated), mixed(limits, second_on_emulated);
  for (TinyModel* model : {&devices, &mixed}) {
    CHECK(distance(logits_of(*model, {3, 1, 4, 1, 5, 9, 2, 6}, 0), logits_of(cpu, {3, 1, 4, 1, 5, 9, 2, 6}, 0)) < 0.01);
    CHECK(distance(logits_of(*model, {5}, 8), logits_of(cpu, {5}, 8)) < 0.01);
  }
}

TEST(device_backend_loads_alike_from_one_thread_and_from_many) {
  const std::vector<float> one = linear_filled_by(1), many = linear_filled_by(6);
  CHECK(std::memcmp(one.data(), many.data(), out * sizeof(float)) == 0);
  // The first output, as the canonical form says it.
  const CanonicalRows rows = slab(0);
  double expected = rows.bias[0];
  for (int64_t k = 0; k < in; ++k) {
    uint16_t scale;
    std::memcpy(&scale, &rows.scales[static_cast<size_t>(k / group * 2)], 2);
    const int code = static_cast<int>(rows.codes[static_cast<size_t>(k / 8)] >> (4 * (k % 8)) & 15);
    expected += f16_to_float(scale) * static_cast<double>(code - rows.zeros[static_cast<size_t>(k / group)]) *
                static_cast<double>(k + 1) / in;
  }
  CHECK(std::abs(one[0] - expected) < 1e-3 * (1 + std::abs(expected)));
}

// From the crossover on weights are rounded to halves: the last bits of the outputs tell that they were.
TEST(device_backend_multiplies_many_rows_by_panels) {
  const auto with_crossover = [](const char* rows) {
    setenv("BILLFISH_CUDA_CROSSOVER", rows, 1);
    const std::vector<float> y = linear_filled_by(1, 256);
    unsetenv("BILLFISH_CUDA_CROSSOVER");
    return y;
  };
  const std::vector<float> fused = with_crossover("never"), panels = with_crossover("256");
  CHECK(fused != panels);
  for (size_t i = 0; i < fused.size(); ++i) {
    CHECK(panels[i] == panels[i % out]);
    // Sums of absolute products are at most some 100: codes up to 15, scales up to 0.07, 256 inputs of 0.5.
    CHECK_MESSAGE(std::abs(panels[i] - fused[i]) <= 0x1p-11 * 100, "output " << i << ": " << panels[i] - fused[i]);
  }
}

TEST(device_backend_passes_hidden_states_to_another_device) {
  Program program;
  program.values = {{3, RowKind::tokens, ValueClass::residual, no_value, 0}};
  std::vector<std::unique_ptr<Backend>> backends;
  std::vector<Tensor> states;
  for (const char* device : {"emulated:0", "emulated:1", "cpu"}) {
    backends.push_back(make_backend(device, {}));
    program.input = program.output = 0;
    program.hands_over = true;
    backends.back()->prepare(program, {}, limits);
    states.push_back({backends.back()->allocate(2 * 16 * sizeof(float), MemoryUse::buffers), DType::f32, 2, 3, 16});
  }
  Backend &sender = *backends[0], &receiver = *backends[1];
  CHECK(receiver.can_receive_from(sender));
  CHECK(sender.can_receive_from(sender));
  CHECK(!receiver.can_receive_from(*backends[2]));
  CHECK(!backends[2]->can_receive_from(sender));

  const auto give = [&](float value) {
    const float values[6] = {value, value, value, value, value, value};
    sender.from_host(values, states[0]);
    return sender.send_to_peer(states[0]);
  };
  const auto take = [&] {
    float taken[6] = {};
    receiver.receive_from_peer(sender, states[1]);
    receiver.to_host(states[1], taken);
    CHECK(std::count(taken, taken + 6, taken[0]) == 6);
    return taken[0];
  };
  in_every_schedule([&] {
    CHECK(give(1));
    CHECK(give(2));
    CHECK(!give(3));  // neither has been taken
    CHECK(take() == 1);
    CHECK(give(4));
    CHECK(!give(5));
    CHECK(take() == 2);
    CHECK(take() == 4);
  });
}

// Each stage samples where its logits are: what it brings is what the host samples from the logits that come along. Six
// rows in pieces of four, one of them without a request.
TEST(device_backend_samples_what_the_host_samples) {
  for (const auto& make : {TinyModel::MakeBackend(TinyModel::plain_backend), TinyModel::MakeBackend(on_emulated)}) {
    TinyModel model(limits, make);
    const auto step = model.step({3, 1, 4, 1, 5, 9}, 0, 0, 1);
    step->batch.logit_rows = {0, 1, 2, 3, 4, 5};
    step->sampling.resize(6);
    for (size_t row = 0; row < 6; ++row) {
      if (row == 2) continue;
      SamplingRequest& request = step->sampling[row].emplace();
      request.generated = {7, 8, 7};
      request.bias = {{static_cast<int32_t>(row), 3}};
      SamplingParameters& p = request.parameters;
      p.temperature = 0.5f * static_cast<float>(row);
      p.top_p = 0.9f;
      p.seed = 11;
      p.step = row;
      p.frequency_penalty = 0.5f;
      p.logprobs = static_cast<int32_t>(row);
      p.generated = request.generated;
      p.bias = request.bias;
    }
    CHECK(!model.submit(step).get()->error);
    std::vector<double> scratch_memory(SamplingScratch::bytes(vocabulary) / sizeof(double) + 1);
    SamplingScratch scratch(scratch_memory.data(), vocabulary);
    CHECK(step->result.samples.size() == 5);
    size_t at = 0;
    for (size_t row = 0; row < 6; ++row) {
      if (row == 2) continue;
      const Sampled& got = step->result.samples[at++];
      const Sampled expected =
          sample(step->result.logits.data() + row * vocabulary, vocabulary, step->sampling[row]->parameters, scratch);
      CHECK(got.token == expected.token);
      CHECK(got.logprob == expected.logprob);
      CHECK(got.alternatives.size() == row);
      CHECK(expected.alternatives.size() == row);
      for (size_t i = 0; i < row; ++i) {
        CHECK(got.alternatives[i].token == expected.alternatives[i].token);
        CHECK(got.alternatives[i].logprob == expected.alternatives[i].logprob);
      }
    }
  }
}

TEST(device_backend_counts_its_memory_and_gives_it_back) {
  const uint64_t before = Device::at(2).free_bytes();
  {
    const auto backend = make_backend("emulated:2", {});
    backend->reserve(1024 + 256 + 512);
    backend->allocate(1000, MemoryUse::buffers);
    backend->allocate(256, MemoryUse::kv_cache);
    backend->make_vector(std::vector<float>(65));
    const MemoryCount count = backend->memory();
    CHECK(count.kv_cache == 256);
    CHECK(count.weights == 512);
    CHECK(count.total() == gpu::page);
    CHECK(Device::at(2).free_bytes() == before - count.total());
  }
  CHECK(Device::at(2).free_bytes() == before);
}

TEST(device_backend_reports_a_full_device_and_goes_on) {
  const auto backend = make_backend("emulated:3", {});
  constexpr size_t page = gpu::page;
  const DeviceMemory most(Device::at(3), Device::at(3).free_bytes() - page);
  std::string told;
  try {
    backend->allocate(page + 1, MemoryUse::weights);
  } catch (const Error& error) {
    CHECK(error.code() == "OUT_OF_MEMORY");
    told = error.what();
  }
  CHECK_MESSAGE(told.find("emulated:3 cannot hold 4194304 more bytes: 2097152 of") == 0, told);
  backend->allocate(page, MemoryUse::weights);
  CHECK(backend->memory().total() == page);
}

TEST(device_backend_reports_what_failed_on_the_device) {
  const auto backend = make_backend("emulated:4", {});
  auto* values = static_cast<float*>(backend->allocate(64, MemoryUse::buffers));
  float to[16] = {};
  CHECK_THROWS(backend->to_host({values, DType::f32, 1, 32, 32}, to), "INTERNAL");  // twice what there is
  backend->drain();
  backend->to_host({values, DType::f32, 1, 16, 16}, to);
}

TEST(device_backend_refuses_what_it_does_not_compute) {
  CHECK_THROWS(make_backend("emulated:0", {true, DType::f32, DType::f16}), "INVALID_OPTION");
  CHECK_THROWS(make_backend("emulated:0", {false, DType::f16, DType::f32}), "INVALID_OPTION");
  CHECK_THROWS(make_backend("emulated:99", {}), "DEVICE_NOT_FOUND");
  CHECK_THROWS(make_backend("emulated:", {}), "DEVICE_NOT_FOUND");
  CHECK_THROWS(make_backend("emulated", {}), "DEVICE_NOT_FOUND");
}
