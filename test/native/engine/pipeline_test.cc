#include "engine/pipeline.h"

#include <atomic>
#include <cmath>
#include <future>
#include <mutex>
#include <random>
#include <set>

#include "engine/error.h"
#include "support/check.h"
#include "support/tiny_model.h"

using namespace billfish;

namespace {

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return 1e9;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

}  // namespace

TEST(pipeline_gives_the_same_whole_in_pieces_and_token_by_token) {
  TinyModel model;
  const std::vector<int32_t> prompt = {3, 1, 4, 1, 5, 9, 2, 6};
  const auto whole = model.submit(model.step(prompt, 0, 0, 2)).get();
  CHECK(!whole->error);
  CHECK(whole->result.logits.size() == static_cast<size_t>(vocabulary));
  std::shared_ptr<Step> last;
  for (int32_t i = 0; i < 8; ++i) last = model.submit(model.step({prompt[i]}, i, 4, 2)).get();
  CHECK(distance(whole->result.logits, last->result.logits) < 1e-5);
  model.submit(model.step({3, 1, 4}, 0, 8, 2)).get();
  last = model.submit(model.step({1, 5, 9, 2, 6}, 3, 8, 2)).get();
  CHECK(distance(whole->result.logits, last->result.logits) < 1e-5);
}

TEST(pipeline_computes_more_logit_rows_than_the_head_takes_at_a_time) {
  TinyModel model;
  auto step = model.step({3, 1, 4, 1, 5, 9, 2, 6, 5}, 0, 0, 3);
  step->batch.logit_rows = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  step->sampling.resize(9);
  step->sampling[8] = SamplingRequest{};
  const auto done = model.submit(step).get();
  CHECK(done->result.logits.size() == 9u * vocabulary);
  CHECK(done->result.samples.size() == 1);
  const auto single = model.submit(model.step({3, 1, 4, 1, 5, 9}, 0, 4, 3)).get();
  const std::vector<float> row(done->result.logits.begin() + 5 * vocabulary,
                               done->result.logits.begin() + 6 * vocabulary);
  CHECK(distance(row, single->result.logits) < 1e-5);
}

// None, some, more than a stage computes at a time, and then a decoded token, through host memory and between devices.
TEST(pipeline_hands_over_the_wanted_rows_alone) {
  const auto check = [](const StageLimits& limits, const TinyModel::MakeBackend& make) {
    TinyModel all(limits, make), wanted(limits, make, RowKind::logits);
    const std::vector<int32_t> prompt = {3, 1, 4, 1, 5, 9, 2, 6, 5};
    const auto logits = [&](TinyModel& model, const std::vector<int32_t>& rows) {
      const auto step = model.step(prompt, 0, 0, 3);
      step->batch.logit_rows = rows;
      step->sampling.resize(rows.size());
      std::vector<std::shared_ptr<Step>> steps = {model.submit(step).get()};
      steps.push_back(model.submit(model.step({3, 5}, 9, 0, 3)).get());
      steps.push_back(model.submit(model.step({8}, 11, 0, 3)).get());
      std::vector<float> logits;
      for (const auto& done : steps) {
        CHECK(!done->error);
        logits.insert(logits.end(), done->result.logits.begin(), done->result.logits.end());
      }
      CHECK(logits.size() == (rows.size() + 2) * vocabulary);
      return logits;
    };
    for (const std::vector<int32_t>& rows :
         {std::vector<int32_t>{}, {8}, {1, 4, 7}, {0, 2, 4, 6}, {0, 1, 2, 3, 4, 5, 6, 7, 8}}) {
      CHECK(logits(all, rows) == logits(wanted, rows));
    }
  };
  check({4, 16, 12, 4}, TinyModel::plain_backend);
  check(emulated_model::limits, emulated_model::on(0, 1));
  check(emulated_model::limits, emulated_model::on(0, 0));
}

TEST(pipeline_refuses_batches_that_would_reach_outside) {
  TinyModel model;
  const auto refused = [&](auto change) {
    auto step = model.step({1, 2, 3}, 0, 0, 1);
    change(*step);
    CHECK_THROWS(model.pipeline->check(*step), "INVALID_OPTION");
  };
  refused([](Step& s) { s.batch.tokens[1] = vocabulary; });
  refused([](Step& s) { s.batch.tokens[1] = -1; });
  refused([](Step& s) { s.batch.positions[2] = 3; });
  refused([](Step& s) { s.batch.positions.pop_back(); });
  refused([](Step& s) { s.batch.sequences[0].rows = 2; });
  refused([](Step& s) { s.batch.sequences[0].rows = 4; });
  refused([](Step& s) { s.batch.sequences[0].first_row = 1; });
  refused([](Step& s) { s.batch.sequences[0].past = -1; });
  refused([](Step& s) { s.batch.sequences[0].past = 2; });           // 5 positions in a block of 4
  refused([](Step& s) { s.batch.sequences[0].past = 0x7ffffffe; });  // no overflow either
  refused([](Step& s) { s.batch.block_tables[0] = 16; });
  refused([](Step& s) { s.batch.block_tables[0] = -1; });
  refused([](Step& s) { s.batch.logit_rows = {3}; });
  refused([](Step& s) { s.batch.logit_rows = {-1}; });
  refused([](Step& s) { s.sampling.resize(2); });
  refused([](Step& s) { s.batch.tokens.clear(), s.batch.positions.clear(), s.batch.sequences.clear(); });
  refused([](Step& s) { s.batch.tokens.resize(13, 0), s.batch.positions.resize(13, 0); });
  model.pipeline->check(*model.step({1, 2, 3}, 0, 15, 1));
}

// Many steps from many threads, some cancelled, and a close in the middle: every step is finished exactly once.
TEST(pipeline_finishes_every_step_when_closed_under_load) {
  for (int round = 0; round < 20; ++round) {
    TinyModel model;
    std::atomic<int> finished{0}, submitted{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 40; ++i) {
          auto step = model.step({1, 2, 3}, 0, t * 2, 1);
          step->done = [&](std::shared_ptr<Step> done) {
            if (done->error && done->error->code() != "DISPOSED") CHECK(done->error->code() == "ABORTED");
            ++finished;
          };
          if (i % 7 == 0) step->cancelled = true;
          ++submitted;
          model.pipeline->submit(step);
        }
      });
    }
    if (round % 2) std::this_thread::yield();
    model.pipeline->close();
    for (auto& thread : threads) thread.join();
    model.pipeline->close();
    CHECK(finished == submitted);
  }
}

TEST(backends_that_do_not_exist_are_refused) {
  CHECK_THROWS(make_backend("tpu", {}), "DEVICE_NOT_FOUND");
  CHECK_THROWS(make_backend("cpu:", {}), "DEVICE_NOT_FOUND");
  CHECK_THROWS(make_backend("cpu:1x", {}), "DEVICE_NOT_FOUND");
  CHECK_THROWS(make_backend("cuda:99", {}), "DEVICE_NOT_FOUND");
  CHECK(make_backend("cpu:7", {})->device() == "cpu:7");
}
