#include "checkpoint/mapped_file.h"

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <numeric>
#include <thread>

#include "engine/available_cores.h"
#include "engine/error.h"
#include "engine/thread_pool.h"
#include "support/check.h"
#include "support/safetensors_file.h"

using billfish::available_cores;
using billfish::DType;
using billfish::MappedFile;
using billfish::ThreadPool;
using fixtures::TemporaryFile;

TEST(mapped_file_gives_the_bytes_of_the_file) {
  TemporaryFile file;
  std::vector<int32_t> numbers(5000);
  std::iota(numbers.begin(), numbers.end(), 7);
  file.write("numbers", DType::i32, {5000}, numbers);
  const MappedFile mapped(file.path().string());
  CHECK(mapped.size() == 1 + 5000 * 4);
  CHECK(std::memcmp(mapped.at(1, 5000 * 4, "numbers"), numbers.data(), 5000 * 4) == 0);
  // Released pages come back from the file.
  mapped.prefetch(0, mapped.size());
  mapped.release(0, mapped.size());
  CHECK(std::memcmp(mapped.at(1, 5000 * 4, "numbers"), numbers.data(), 5000 * 4) == 0);
}

TEST(mapped_file_refuses_ranges_beyond_its_end) {
  TemporaryFile file;
  file.write("bytes", DType::u8, {99}, std::vector<uint8_t>(99));
  const MappedFile mapped(file.path().string());
  CHECK(mapped.at(100, 0, "nothing") != nullptr);
  CHECK_THROWS(mapped.at(0, 101, "too many"), "INVALID_CHECKPOINT");
  CHECK_THROWS(mapped.at(101, 0, "behind"), "INVALID_CHECKPOINT");
  CHECK_THROWS(mapped.at(50, UINT64_MAX - 20, "wraps round"), "INVALID_CHECKPOINT");
  CHECK_THROWS(mapped.at(UINT64_MAX, 2, "wraps round"), "INVALID_CHECKPOINT");
  mapped.release(UINT64_MAX - 5, 5);
  mapped.release(0, UINT64_MAX);
}

TEST(mapped_file_notices_truncation) {
  TemporaryFile file;
  file.write("bytes", DType::u8, {20000}, std::vector<uint8_t>(20000));
  const MappedFile mapped(file.path().string());
  std::filesystem::resize_file(file.path(), 10000);
  CHECK(mapped.at(0, 10000, "what is left") != nullptr);
  CHECK_THROWS(mapped.at(0, 10001, "more"), "INVALID_CHECKPOINT");
}

TEST(mapped_file_survives_truncation_while_it_is_read) {
  TemporaryFile file, other;
  file.write("bytes", DType::u8, {100000}, std::vector<uint8_t>(100000, 7));
  other.write("bytes", DType::u8, {100000}, std::vector<uint8_t>(100000, 9));
  const MappedFile mapped(file.path().string()), whole(other.path().string());
  const uint8_t* const bytes = mapped.at(0, 100001, "all");
  mapped.check_pages();
  std::filesystem::resize_file(file.path(), 10000);
  CHECK(bytes[9999] == 7);
  mapped.check_pages();
  CHECK(bytes[50000] == 0);  // without the watch, the end of the process
  CHECK_THROWS(mapped.check_pages(), "INVALID_CHECKPOINT");
  CHECK(bytes[100000] == 0);
  CHECK(bytes[9999] == 7);
  CHECK(*whole.at(100000, 1, "the last") == 9);
  whole.check_pages();
}

// Weights are read by the pool's threads, which leave most signals to the host program.
TEST(mapped_file_survives_truncation_while_a_pool_reads_it) {
  if (available_cores() < 2) return;  // the pool's helpers would leave all to the caller
  TemporaryFile file;
  file.write("bytes", DType::u8, {100000}, std::vector<uint8_t>(100000, 7));
  const MappedFile mapped(file.path().string());
  const uint8_t* const bytes = mapped.at(0, 100001, "all");
  std::filesystem::resize_file(file.path(), 10000);
  ThreadPool pool(2);
  std::atomic<bool> helped{false};
  const auto caller = std::this_thread::get_id();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!helped && std::chrono::steady_clock::now() < end) {
    pool.parallel_for(2, 1, [&](int64_t, int64_t) {
      if (std::this_thread::get_id() != caller) {
        helped = bytes[50000] == 0;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // for a helper to take the other piece
      }
    });
  }
  CHECK(helped);
  CHECK_THROWS(mapped.check_pages(), "INVALID_CHECKPOINT");
}

static int handled = 0;

TEST(mapped_file_restores_the_signal_handler) {
  struct sigaction own = {}, before = {}, current = {};
  own.sa_handler = [](int) { ++handled; };
  sigaction(SIGBUS, &own, &before);
  {
    TemporaryFile file;
    file.write("bytes", DType::u8, {100}, std::vector<uint8_t>(100));
    const MappedFile mapped(file.path().string()), again(file.path().string());
    sigaction(SIGBUS, nullptr, &current);
    CHECK((current.sa_flags & SA_SIGINFO) != 0);
    raise(SIGBUS);  // nothing of billfish's
    CHECK(handled == 1);
  }
  sigaction(SIGBUS, &before, &current);
  CHECK((current.sa_flags & SA_SIGINFO) == 0);
  CHECK(current.sa_handler == own.sa_handler);
}

TEST(mapped_file_refuses_what_is_not_a_file) {
  CHECK_THROWS(MappedFile("/nowhere/at/all.safetensors"), "INVALID_CHECKPOINT");
  CHECK_THROWS(MappedFile(std::filesystem::temp_directory_path().string()), "INVALID_CHECKPOINT");
  TemporaryFile empty;
  std::filesystem::resize_file(empty.path(), 0);
  CHECK_THROWS(MappedFile(empty.path().string()), "INVALID_CHECKPOINT");
  TemporaryFile pipe;
  std::filesystem::remove(pipe.path());
  CHECK(mkfifo(pipe.path().c_str(), 0600) == 0);
  CHECK_THROWS(MappedFile(pipe.path().string()), "INVALID_CHECKPOINT");
}
