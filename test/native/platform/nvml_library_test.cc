#include "platform/nvml_library.h"

#include "support/check.h"

using billfish::nvml_free_bytes;

constexpr uint64_t gigabyte = 1'000'000'000;
static const char* const fake = BILLFISH_FAKE_NVML;

TEST(nvml_tells_what_is_free_on_a_gpu) {
  for (int i = 0; i < 2; ++i) {  // opened and closed each time
    CHECK(nvml_free_bytes(fake, "0000:3b:00.0", 79 * gigabyte) == 33 * gigabyte);
  }
}

TEST(nvml_knows_nothing_of_other_gpus_nor_of_a_part_of_one) {
  CHECK(!nvml_free_bytes(fake, "0000:af:00.0", 79 * gigabyte));
  CHECK(!nvml_free_bytes(fake, "0000:3b:00.0", 40 * gigabyte));
  CHECK(!nvml_free_bytes(fake, "0000:3b:00.0", 10 * gigabyte));
}

TEST(nvml_may_be_missing) {
  CHECK(!nvml_free_bytes("libnothing-of-this-name.so.1", "0000:3b:00.0", 79 * gigabyte));
  CHECK(!nvml_free_bytes(BILLFISH_FAKE_CUBLAS, "0000:3b:00.0", 79 * gigabyte));  // a library, and none of its functions
}
