// What a stage holds on a device, what is lent of it while weights are loaded, and devices that are lost.
#include "backend/stage_memory.h"

#include "platform/cuda_errors.h"
#include "support/kernel_testing.h"
#include "support/tiny_model.h"

namespace billfish::BILLFISH_TARGET {
using emulated_model::limits, emulated_model::on, emulated_model::run;

TEST(stage_memory_lends_the_largest_that_need_not_be_kept) {
  Device& device = Device::at(0);
  Stream stream(device);
  StageMemory memory(device, stream);
  memory.allocate(4096, MemoryUse::weights);
  void* const kept = memory.allocate(2048, MemoryUse::buffers);
  void* const cache = memory.allocate(1024, MemoryUse::kv_cache);
  memory.keep(kept);
  stream.fill(kept, 7, 2048);
  void* const lent = memory.borrow(1000);
  CHECK(lent == cache);
  CHECK_COMPLAINT(complaint([&] { memory.borrow(100); }), "lent twice");
  std::vector<uint8_t> bytes(1000);
  stream.copy_to_host(bytes.data(), lent, bytes.size());
  CHECK(bytes == std::vector<uint8_t>(1000, 0xff));
  stream.fill(lent, 9, 1000);
  memory.return_borrowed();
  bytes.resize(1024);
  stream.copy_to_host(bytes.data(), cache, bytes.size());
  CHECK(bytes == std::vector<uint8_t>(1024, 0));

  void* const own = memory.borrow(1500);  // the cache is too small, and the larger buffer is not to be had
  CHECK(own != kept);
  CHECK(own != cache);
  stream.fill(own, 9, 1500);
  stream.synchronize();
  memory.return_borrowed();
  bytes.resize(2048);
  stream.copy_to_host(bytes.data(), kept, bytes.size());
  CHECK(bytes == std::vector<uint8_t>(2048, 7));
  CHECK(memory.count().total() == 4096 + 2048 + 1024);

  stream.fill(cache, 1, 1);  // by somebody who wants to find it again
  CHECK_COMPLAINT(complaint([&] { memory.borrow(1000); }), "1024 bytes on emulated:0 was written to");
}

TEST(errors_that_lose_a_device_are_known) {
  for (const int error : {214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719}) CHECK(loses_device(error));
  for (const int error : {0, 1, 2, 35, 46, 100, 201, 209, 304, 400, 600, 701, 704, 720, 800, 900, 901, 906, 999}) {
    CHECK(!loses_device(error));
  }
}

// Devices that no other test has: what is lost stays so.
TEST(a_lost_device_says_so_in_every_call_and_others_go_on) {
  TinyModel lost(limits, on(11, 12)), other(limits, on(13, 14));
  CHECK(!run(lost)->error);
  Device::at(12).mark_lost("a kernel launch failed with cudaErrorIllegalAddress (700)");
  Device::at(12).mark_lost("something later failed");
  std::string first;
  for (int i = 0; i < 3; ++i) {
    const auto step = run(lost);
    REQUIRE(step->error);
    CHECK(step->error->code() == "DEVICE_LOST");
    if (i == 0) first = step->error->what();
    CHECK(step->error->what() == first);
    CHECK_COMPLAINT(first, "emulated:12 is lost: a kernel launch failed with cudaErrorIllegalAddress (700)");
    CHECK_COMPLAINT(first, "restarted");
  }
  CHECK(!run(other)->error);
  CHECK_THROWS(billfish::make_backend("emulated:12", {false, DType::f16, DType::f16})->allocate(1, MemoryUse::buffers),
               "DEVICE_LOST");
}

}  // namespace billfish::BILLFISH_TARGET
