// Steps in flight through stages on emulated devices, which work on while the stages' threads go on: hand-over by
// events, recorded steps, and what fails or ends half-way. BILLFISH_EMULATOR_SCHEDULE=reversed and random:SEED run the
// devices sooner.
#include <cstdlib>
#include <functional>
#include <future>

#include "backend/recorded_steps.h"
#include "backends.h"
#include "engine/error.h"
#include "machine/device.h"
#include "runtime/queue.h"
#include "support/check.h"
#include "support/kernel_testing.h"
#include "support/tiny_model.h"

using namespace billfish;
using namespace billfish::emulated;

namespace {

// TinyModel's devices are cpu:0 and cpu:1; here they are emulated.
std::unique_ptr<Backend> on_emulated(const std::string& device) {
  return billfish::make_backend("emulated" + device.substr(3), {false, DType::f16, DType::f16});
}

constexpr StageLimits limits = {16, 8, 12, 4};

std::vector<float> logits_of(TinyModel& model, std::vector<int32_t> tokens, int32_t past) {
  const auto step = model.submit(model.step(std::move(tokens), past, 3, 2)).get();
  CHECK_MESSAGE(!step->error, step->error->what());
  return step->result.logits;
}

}  // namespace

// Many steps in flight, some of them aborted: every other one brings what it brings alone.
TEST(device_steps_keep_consecutive_steps_apart) {
  TinyModel model(limits, on_emulated);
  std::vector<std::vector<float>> alone;
  for (int32_t token = 0; token < 8; ++token) alone.push_back(logits_of(model, {token, 1}, 0));
  std::vector<std::shared_ptr<Step>> steps;
  std::vector<std::future<std::shared_ptr<Step>>> results;
  for (int32_t i = 0; i < 40; ++i) {
    steps.push_back(model.step({i % 8, 1}, 0, 3, 2));
    if (i % 7 == 3) steps.back()->cancelled = true;
    results.push_back(model.submit(steps.back()));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const auto step = results[i].get();
    if (i % 7 == 3) {
      REQUIRE(step->error);
      CHECK(step->error->code() == "ABORTED");
      continue;
    }
    CHECK_MESSAGE(!step->error, step->error->what());
    CHECK(step->result.logits == alone[i % 8]);
  }
}

TEST(device_steps_report_when_each_stage_worked) {
  TinyModel model(limits, on_emulated);
  const double before = steady_milliseconds();
  std::vector<std::future<std::shared_ptr<Step>>> results;
  for (int i = 0; i < 5; ++i) results.push_back(model.submit(model.step({1, 2, 3, 4, 5, 6, 7, 8}, 0, 3, 2)));
  StageInterval last[2];
  for (auto& result : results) {
    const std::vector<StageInterval> stages = result.get()->result.stages;
    for (size_t s = 0; s < 2; ++s) {
      CHECK(stages[s].begin < stages[s].end);
      CHECK(stages[s].begin > before - 1);
      CHECK(stages[s].begin > last[s].end - 0.1);  // one step at a time
      last[s] = stages[s];
    }
    CHECK(stages[0].end < stages[1].end);
    CHECK(stages[1].end < steady_milliseconds() + 1);
  }
}

// A kernel of the first stage fails after its thread has gone on; who waits for it is told, and later steps work.
TEST(device_steps_report_failed_work_to_its_step) {
  TinyModel model(limits, on_emulated);
  const std::vector<float> expected = logits_of(model, {1, 2}, 0);
  for (int round = 0; round < 3; ++round) {
    const auto wrong = model.step({1, 2}, 0, 3, 2);
    wrong->batch.block_tables[0] = 1'000'000;  // which check() would refuse
    std::promise<std::string> told;
    wrong->done = [&](const std::shared_ptr<Step>& step) { told.set_value(step->error ? step->error->what() : ""); };
    model.pipeline->submit(wrong);
    CHECK_COMPLAINT(told.get_future().get(), "WriteKv");
    CHECK(logits_of(model, {1, 2}, 0) == expected);
  }
}

TEST(device_steps_close_with_work_under_way) {
  std::vector<std::future<std::shared_ptr<Step>>> results;
  {
    TinyModel model(limits, on_emulated);
    for (int i = 0; i < 10; ++i) results.push_back(model.submit(model.step({1, 2, 3}, 0, 3, 2)));
    if (results.size() % 2 == 0) results[1].wait();
    model.pipeline->close();
  }
  for (auto& result : results) {
    const auto step = result.get();
    if (step->error) CHECK(step->error->code() == "DISPOSED");
  }
}

// --- Recorded steps.

namespace {

// A step of one token for each of `count` sequences, which have `past` tokens in the cache already.
std::shared_ptr<Step> decode_step(int32_t count, int32_t past) {
  auto step = std::make_shared<Step>();
  Batch& batch = step->batch;
  for (int32_t i = 0; i < count; ++i) batch.block_tables.push_back(i);
  for (int32_t i = 0; i < count; ++i) {
    batch.tokens.push_back((7 * i + past) % vocabulary);
    batch.positions.push_back(past);
    batch.sequences.push_back({i, 1, past, batch.block_tables.data() + i, 1, 0});
    batch.logit_rows.push_back(i);
  }
  step->sampling.resize(static_cast<size_t>(count));
  step->want_logits = true;
  return step;
}

std::vector<float> decoded(TinyModel& model, int32_t count, int32_t past) {
  const auto step = model.submit(decode_step(count, past)).get();
  CHECK_MESSAGE(!step->error, step->error->what());
  CHECK(step->result.notices.empty());
  CHECK(step->result.logits.size() == static_cast<size_t>(count * vocabulary));
  return step->result.logits;
}

constexpr StageLimits many = {16, 16, 12, 12};

}  // namespace

TEST(device_steps_are_replayed_with_the_results_of_steps_that_are_not) {
  const auto run = [] {
    TinyModel model(many, on_emulated);
    std::vector<std::vector<float>> all;
    for (int32_t past = 0; past < 9; ++past) {
      all.push_back(decoded(model, 3, past));
      all.push_back(decoded(model, 1 + past % 5, 10));                         // the number of sequences changes
      if (past % 4 == 3) all.push_back(logits_of(model, {3, 1, 4, 1, 5}, 0));  // no decode step
      if (past % 4 == 2) {
        const auto aborted = decode_step(3, past);
        aborted->cancelled = true;
        CHECK(model.submit(aborted).get()->error->code() == "ABORTED");
      }
    }
    return all;
  };
  const uint64_t graphs = launch_counts().graphs, recorded = launch_counts().recorded;
  const std::vector<std::vector<float>> with = run();
  CHECK(launch_counts().graphs - graphs > 20);
  CHECK(launch_counts().recorded > recorded);
  const Variable off("BILLFISH_CUDA_GRAPHS", "off");
  const uint64_t graphs_before = launch_counts().graphs;
  const std::vector<std::vector<float>> without = run();
  CHECK(launch_counts().graphs == graphs_before);
  CHECK(with.size() == without.size());
  for (size_t i = 0; i < with.size(); ++i) {
    for (size_t j = 0; j < with[i].size(); ++j) CHECK(std::abs(with[i][j] - without[i][j]) < 2e-3);
  }
}

TEST(device_steps_are_recorded_the_second_time_and_then_replayed) {
  TinyModel model(many, on_emulated);
  const auto launches = [&](int32_t count, int32_t past) {
    const uint64_t kernels = launch_counts().kernels, recorded = launch_counts().recorded;
    const uint64_t graphs = launch_counts().graphs;
    decoded(model, count, past);
    return std::vector<uint64_t>{launch_counts().kernels - kernels, launch_counts().recorded - recorded,
                                 launch_counts().graphs - graphs};
  };
  const std::vector<uint64_t> first = launches(3, 0), second = launches(3, 1), third = launches(4, 2);
  CHECK(first[0] > 5);
  CHECK(first[1] == 0);
  CHECK(first[2] == 0);
  CHECK(second[0] == 0);
  CHECK(second[1] == first[0]);
  CHECK(second[2] == 2);  // a graph a stage; the tiny model has no rope
  CHECK(third[0] == 0);
  CHECK(third[1] == 0);
  CHECK(third[2] == 2);                  // four rows, as three are
  CHECK(launches(5, 3)[0] == first[0]);  // eight
}

TEST(device_steps_padding_leaves_the_cache_alone) {
  TinyModel model(many, on_emulated);
  for (int32_t past = 0; past < 4; ++past) decoded(model, 4, past);
  const std::vector<float> before = decoded(model, 4, 4);
  for (int i = 0; i < 4; ++i) decoded(model, 3, 4);  // a row of padding, which has the position 0 of no sequence
  CHECK(decoded(model, 4, 4) == before);
}

TEST(device_steps_are_recorded_for_few_numbers_of_rows) {
  const RecordedSteps steps;
  for (const auto& [rows, recorded] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {2, 2}, {3, 4}, {5, 8}, {9, 16}, {17, 24}, {64, 64}, {65, 96}, {224, 224}, {225, 0}}) {
    CHECK(steps.rows_for(rows, 1000) == recorded);
  }
  CHECK(steps.rows_for(5, 7) == 7);
}

namespace {

// A step whose one operator writes how often it has been called.
struct CountedSteps {
  Stream stream{Device::at(0)};
  DeviceMemory memory{Device::at(0), 64};
  RecordedSteps steps;
  uint8_t calls = 0;

  // `more` runs within the operator. Returns what is in memory afterward.
  uint8_t run(
      const std::function<void()>& more = [] {}, int32_t key = 1) {
    steps.begin({key});
    steps.run(stream, 0, [&] {
      stream.fill(memory.data(), ++calls, 64);
      more();
    });
    return download<uint8_t>(stream, memory)[63];
  }

  int calls_of(int32_t key) {
    const int before = calls;
    run([] {}, key);
    return calls - before;
  }
};

}  // namespace

TEST(device_steps_run_as_they_are_where_one_cannot_be_recorded) {
  CountedSteps counted;
  RecordedSteps& steps = counted.steps;
  const uint8_t plain[64] = {};
  const DeviceMemory to(Device::at(0), sizeof plain);
  const auto run = [&] {
    return counted.run([&] { counted.stream.copy_to_device(to.data(), plain, sizeof plain); });  // not pinned
  };
  CHECK(run() == 1);
  CHECK(steps.take_notice().empty());
  CHECK(run() == 4);  // twice in vain: with overlapping grids and without
  const std::string notice = steps.take_notice();
  CHECK_COMPLAINT(notice, "Decode steps on emulated:0 run without CUDA graphs");
  CHECK_COMPLAINT(notice, "A copy from memory that is not pinned cannot be part of a graph");
  CHECK(run() == 5);
  CHECK(steps.take_notice().empty());
  CHECK(steps.rows_for(3, 16) == 4);
}

TEST(device_steps_are_recorded_without_overlapping_grids_where_they_cannot_be_with_them) {
  CountedSteps counted;
  const Stream& stream = counted.stream;
  RecordedSteps& steps = counted.steps;
  const auto run = [&] {
    return counted.run([&] {
      if (stream.state().captured && stream.overlaps_grids()) throw Error("INTERNAL", "no overlap in graphs");
    });
  };
  CHECK(run() == 1);
  CHECK(steps.take_notice().empty());
  CHECK(stream.overlaps_grids());
  CHECK(run() == 3);
  CHECK(!stream.overlaps_grids());
  const std::string notice = steps.take_notice();
  CHECK_COMPLAINT(notice, "Decode steps on emulated:0 are recorded without overlapping launches");
  CHECK_COMPLAINT(notice, "no overlap in graphs");
  CHECK(run() == 3);
  CHECK(counted.calls == 3);
  CHECK(steps.take_notice().empty());  // replayed
}

// Only launching a graph shows whether the device takes it.
TEST(device_steps_go_on_where_a_recorded_one_cannot_be_launched) {
  for (const int refused : {1, 2}) {
    CountedSteps counted;
    CHECK(counted.run() == 1);
    billfish::emulator::device(0).refused_graphs = refused;
    CHECK(counted.run() == refused + 2);
    CHECK(!counted.stream.overlaps_grids());
    CHECK(billfish::emulator::device(0).refused_graphs == 0);
    const std::string notice = counted.steps.take_notice();
    CHECK_COMPLAINT(notice, refused == 1 ? "are recorded without overlapping launches" : "run without CUDA graphs");
    CHECK_COMPLAINT(notice, "A graph is refused on emulated:0");
    CHECK(counted.run() == (refused == 1 ? 3 : 5));  // replayed, or as it is
  }
}

// What ends a step is no fault of its recording.
TEST(device_steps_go_on_being_recorded_after_one_that_was_aborted) {
  CountedSteps counted;
  counted.run();
  CHECK_THROWS(counted.run([] { throw Error("ABORTED", "The step was aborted."); }), "ABORTED");
  CHECK(counted.stream.overlaps_grids());
  counted.run();
  const int recorded = counted.calls;
  counted.run();
  CHECK(counted.calls == recorded);
  CHECK(counted.steps.take_notice().empty());
}

TEST(device_steps_keep_no_more_graphs_than_they_say) {
  CountedSteps counted;
  const auto most = static_cast<int32_t>(RecordedSteps::max_steps);
  for (int32_t key = 0; key < most; ++key) {
    CHECK(counted.calls_of(key) == 1);
    CHECK(counted.calls_of(key) == 1);
    CHECK(counted.calls_of(key) == 0);
  }
  CHECK(counted.calls_of(0) == 0);
  CHECK(counted.calls_of(most) == 1);  // in the place of 1, which was used least recently
  CHECK(counted.calls_of(0) == 0);
  CHECK(counted.calls_of(2) == 0);
  CHECK(counted.calls_of(1) == 1);
}

TEST(device_steps_option_is_checked) {
  const Variable wrong("BILLFISH_CUDA_GRAPHS", "maybe");
  CHECK_THROWS(on_emulated("cpu:0"), "INVALID_OPTION");
}
