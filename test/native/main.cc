#include <cstdlib>
#include <cstring>

#include "engine/error.h"
#include "platform/device_discovery.h"
#include "support/check.h"

namespace check {

static int failures_in_test = 0;
static std::vector<std::string>* collected = nullptr;  // by failures_of()

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

void fail(const char* file, int line, const std::string& message) {
  if (collected != nullptr) {
    collected->push_back(message);
    return;
  }
  ++failures_in_test;
  if (failures_in_test <= 10) std::printf("  %s:%d: %s\n", file, line, message.c_str());
}

std::vector<std::string> failures_of(const std::function<void()>& body) {
  std::vector<std::string> failures;
  collected = &failures;
  try {
    body();
  } catch (const Stop&) {  // a REQUIRE, which has been collected
  }
  collected = nullptr;
  return failures;
}

}  // namespace check

#if defined(__SANITIZE_THREAD__)
constexpr bool checks_threads = true;
#elif defined(__has_feature)
constexpr bool checks_threads = __has_feature(thread_sanitizer);
#else
constexpr bool checks_threads = false;
#endif

// Why a test cannot run here, or is not worth its time; empty when it can and is.
static std::string obstacle(const check::Test& test) {
#ifdef BILLFISH_GPU_TESTS
  static const std::string no_devices = explain(billfish::discover_cuda_devices());
  if (!no_devices.empty()) return no_devices;
#endif
  // A third of all time, when every access is checked.
  if (checks_threads && std::strncmp(test.name, "cuda_", 5) == 0) {
    return "kernels under ThreadSanitizer: the emulator runs them on one thread";
  }
  return "";
}

static void run(const check::Test& test) {
  try {
    test.run();
  } catch (const check::Stop&) {  // a REQUIRE, which has been told of
  } catch (const billfish::Error& error) {
    check::fail(test.name, 0, error.code() + ": " + error.what());
  }
}

// PROGRAM [FILTER]: tests whose name contains it. PROGRAM --exactly NAME: that one. PROGRAM --shard I N [FILTER]: every
// Nth of them, from the Ith on. PROGRAM --list: names, nothing is run.
int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "--list") {
    for (const check::Test& test : check::tests()) std::printf("%s\n", test.name);
    return 0;
  }
  const bool exactly = first == "--exactly" && argc > 2;
  const bool sharded = first == "--shard" && argc > 3;
  const int shard = sharded ? std::atoi(argv[2]) : 0;
  const int shards = sharded ? std::atoi(argv[3]) : 1;
  const std::string wanted = exactly ? argv[2] : !sharded ? first : argc > 4 ? argv[4] : "";
  int matches = 0;
  std::string reason;
  int passed = 0, failed = 0, skipped = 0;
  for (const check::Test& test : check::tests()) {
    const bool is_wanted = exactly ? wanted == test.name : std::strstr(test.name, wanted.c_str()) != nullptr;
    if (!is_wanted || matches++ % shards != shard) continue;
    if (const std::string why = obstacle(test); !why.empty()) {
      reason = why;
      ++skipped;
      continue;
    }
    check::failures_in_test = 0;
    run(test);
    if (check::failures_in_test == 0) {
      ++passed;
    } else {
      ++failed;
      std::printf("FAILED %s (%d checks)\n", test.name, check::failures_in_test);
    }
    std::fflush(stdout);
  }
  if (skipped > 0) std::printf("skipped: %s\n", reason.c_str());
  std::printf("%d passed, %d failed", passed, failed);
  if (skipped > 0) std::printf(", %d skipped", skipped);
  std::printf("\n");
  if (exactly && passed + failed + skipped == 0) {
    std::printf("there is no test %s\n", wanted.c_str());
    return 2;
  }
  return failed == 0 ? 0 : 1;
}
