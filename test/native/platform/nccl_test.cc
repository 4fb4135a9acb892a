// Ranks whose devices do not reach each other's memory: NCCL is found, or it is said why not; steps through the tests'
// own (fake_nccl), and steps that one rank gives up.
#include <dlfcn.h>

#include "backend/peer.h"
#include "machine/device.h"
#include "platform/nccl_library.h"
#include "runtime/queue.h"
#include "support/kernel_testing.h"
#include "support/rank_stage.h"

using namespace rank_stage;

namespace {

// Devices that do not reach each other, whoever has asked before.
class Apart {
 public:
  Apart() : peers_("BILLFISH_EMULATED_PEERS", "off") {
    for (int device = 0; device < ranks; ++device) before_[device] = emulator::device(device).reached.exchange(0);
  }
  ~Apart() {
    for (int device = 0; device < ranks; ++device) emulator::device(device).reached = before_[device];
  }

 private:
  Variable peers_;
  uint32_t before_[ranks];
};

void* in_fake(const char* name) {
  static void* const library = dlopen(BILLFISH_FAKE_NCCL, RTLD_NOW | RTLD_LOCAL);
  return dlsym(library, name);
}
int communicators() { return reinterpret_cast<int (*)()>(in_fake("fake_nccl_communicators"))(); }
int made() { return reinterpret_cast<int (*)()>(in_fake("fake_nccl_made"))(); }
int connections() { return reinterpret_cast<int (*)()>(in_fake("fake_nccl_connections"))(); }
size_t longest_sum() { return reinterpret_cast<size_t (*)()>(in_fake("fake_nccl_longest_sum"))(); }
void stall_after(int calls) { reinterpret_cast<void (*)(int)>(in_fake("fake_nccl_stall_after"))(calls); }
void fail_after(int calls) { reinterpret_cast<void (*)(int)>(in_fake("fake_nccl_fail_after"))(calls); }

// A step of which a rank's call fails is told so; the next one has new communicators.
void fail_and_go_on(Stage& stage, int calls, int calls_of_others) {
  const int before = made();
  Step step;
  fill_prompt(step, {1, 2, 3});
  stall_after(calls_of_others);
  fail_after(calls);
  CHECK(run(stage, step) == "INTERNAL");
  stall_after(-1);
  fail_after(-1);
  CHECK(communicators() == 0);
  run_well(stage, 3, before);
  CHECK(made() == before + ranks);
  CHECK(communicators() == ranks);
}

}  // namespace

TEST(nccl_is_found_and_names_its_version) {
  const NcclLibrary library = load_nccl(BILLFISH_FAKE_NCCL);
  CHECK_MESSAGE(library.reason.empty(), library.reason);
  CHECK(library.requested);
  CHECK(library.emulated);
  CHECK(nccl_version_text(library.version) == "2.99.1");
  CHECK(nccl_version_text(2804) == "2.8.4");
  CHECK_COMPLAINT(complaint([&] { library.check(5, "ncclSend"); }), "NCCL: ncclSend failed with 'invalid usage' (5)");
}

TEST(nccl_that_is_missing_says_why) {
  CHECK(load_nccl("off").reason == "BILLFISH_NCCL is 'off'.");
  CHECK(!load_nccl("off").requested);
  const NcclLibrary missing = load_nccl("/nowhere/libnccl.so");
  CHECK(missing.requested);
  CHECK(missing.reason.find("/nowhere/libnccl.so") != std::string::npos);
  CHECK(load_nccl("libm.so.6").reason == "libm.so.6 has no function ncclGetVersion.");
}

TEST(nccl_is_not_used_where_devices_reach_each_other) {
  const auto stage = make_stage();
  CHECK(stage->backend().take_notice().empty());
  CHECK(communicators() == 0);
}

TEST(nccl_is_wanted_where_devices_do_not_reach_each_other) {
  const Apart apart;
  const std::string without = complaint([] { make_stage(); });
  CHECK_COMPLAINT(without, "emulated:0 does not reach the memory of emulated:1");
  CHECK_COMPLAINT(without, "NCCL, which needs no such reach, is not there: emulated devices have no NCCL.");
  const Variable wrong("BILLFISH_NCCL", "/nowhere/libnccl.so");
  CHECK_COMPLAINT(complaint([] { make_stage(); }), "'/nowhere/libnccl.so', which cannot be loaded");
}

TEST(nccl_is_wanted_where_what_devices_write_to_each_other_is_lost) {
  const Apart apart;
  const Variable lost("BILLFISH_EMULATED_PEERS", "lost");
  CHECK_COMPLAINT(complaint([] { make_stage(); }), "emulated:0 is said to reach the memory of emulated:1, but what it");
}

TEST(nccl_that_is_requested_but_missing_is_an_error) {
  const Variable wrong("BILLFISH_NCCL", "/nowhere/libnccl.so");
  CHECK_COMPLAINT(complaint([] { make_stage(); }), "'/nowhere/libnccl.so', which cannot be loaded");
}

TEST(nccl_exchanges_what_ranks_would_read) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  {
    const Apart apart;
    const auto stage = make_stage();
    CHECK(communicators() == ranks);
    const std::string notice = stage->backend().take_notice();
    CHECK_COMPLAINT(notice, "The ranks on emulated:0, emulated:1, emulated:2 exchange values through NCCL 2.99.1 (");
    CHECK_COMPLAINT(notice, "because emulated:0 does not reach the memory of emulated:1");
    for (int32_t turn = 0; turn < 8; ++turn) {
      run_well(*stage, 1 + turn % 5, turn);  // recorded and replayed, too
      Step step;
      fill_prompt(step, {turn, 21, 7, 0, 13, 1});
      CHECK(run(*stage, step).empty());
      check_logits(step);
    }
    CHECK(made() % ranks == 0);
    CHECK(communicators() == ranks);
  }
  CHECK(communicators() == 0);
  const auto asked = make_stage();  // though they would reach each other
  CHECK(communicators() == ranks);
  CHECK(asked->backend().take_notice().empty());
  CHECK_COMPLAINT(complaint([] { make_stage(); }), "emulated:0 computes another stage of several ranks through NCCL");
  CHECK(communicators() == ranks);
  run_well(*asked, 3, 1);
}

TEST(nccl_connects_all_ranks_before_the_first_step) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  const int before = connections();
  const auto stage = make_stage();
  CHECK(connections() == before + ranks * (ranks - 1));
  run_well(*stage, 3, 0);
  CHECK(connections() == before + ranks * (ranks - 1));
}

TEST(nccl_sums_as_much_as_a_step_will_before_the_first_step) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  longest_sum();
  const auto stage = make_stage();
  const size_t tried = longest_sum();
  run_well(*stage, 8, 0);
  CHECK_MESSAGE(longest_sum() <= tried, tried);
  CHECK(tried >= 16 * 1024);
}

// A rank's call waits for the others, one of which then fails: the abort ends the call, whose mutex is taken.
TEST(nccl_that_does_not_come_back_is_aborted) {
  if (emulator::Schedule::current().order != emulator::Schedule::Order::in_order) return;  // as below
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  const auto stage = make_stage();
  run_well(*stage, 3, 0);
  for (int calls = 0; calls < 3; ++calls) fail_and_go_on(*stage, 2, calls);
}

TEST(nccl_goes_on_after_steps_that_were_aborted) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  const Apart apart;
  const auto stage = make_stage();
  const int before = made();
  for (int32_t turn = 0; turn < 60; ++turn) {
    Step step;
    fill_decode(step, 1 + turn % 8, turn);
    const std::string code = run_and_cancel(*stage, step, turn * 40);
    if (!code.empty()) CHECK(code == "ABORTED");
    if (code.empty()) check_logits(step);
    if (turn % 5 == 0) run_well(*stage, 1 + turn % 8, turn);
  }
  CHECK(made() == before);  // all ranks had begun the same: nothing had to be made anew
}

// A call fails on one rank, so that the others' devices wait for it: they are freed.
TEST(nccl_is_made_anew_after_a_rank_that_failed) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  const Apart apart;
  const auto stage = make_stage();
  run_well(*stage, 3, 0);
  for (int calls = 0; calls < 5; ++calls) fail_and_go_on(*stage, calls, -1);  // sums of three ranks, then pieces
}

// What fails on one device before the sum is told, and not what others make of it.
TEST(nccl_is_made_anew_after_a_device_that_failed) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  const Apart apart;
  const auto stage = make_stage();
  for (int32_t turn = 0; turn < 3; ++turn) {
    Step wrong;
    fill_prompt(wrong, {1, 2, 3});
    wrong.batch.logit_rows[1] = 1'000'000;  // which the pipeline would refuse
    CHECK(run(*stage, wrong) == "INTERNAL");
    run_well(*stage, 2, turn);
  }
}

// Of a piece of a prompt no logits are wanted: the first rank's thread takes nothing from its device, which has failed,
// and for which the others' wait.
TEST(nccl_is_made_anew_after_a_first_device_that_nobody_looked_at) {
  // Others do the work within the call that queues it, where it would wait for a thread that waits for this one.
  if (emulator::Schedule::current().order != emulator::Schedule::Order::in_order) return;
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  const auto stage = make_stage();
  for (int32_t turn = 0; turn < 3; ++turn) {
    emulated::enqueue_work(dynamic_cast<emulated::Peer&>(stage->backend()).stream(),
                           [] { throw Error("INTERNAL", "The device fails."); });
    Step step;
    fill_prompt(step, {1, 2, 3});
    step.batch.logit_rows.clear();
    step.sampling.clear();
    step.want_logits = false;
    CHECK(run(*stage, step) == "INTERNAL");
    run_well(*stage, 2, turn);
  }
}

TEST(nccl_that_cannot_be_made_refuses_the_ranks) {
  const Variable named("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  fail_after(1);
  CHECK_COMPLAINT(complaint([] { make_stage(); }), "NCCL: ncclAllReduce of 64 numbers failed with 'remote process");
  fail_after(-1);
  CHECK(communicators() == 0);
}
