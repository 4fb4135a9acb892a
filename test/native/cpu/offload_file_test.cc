#include "cpu/offload_file.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "backends.h"
#include "engine/error.h"
#include "support/check.h"

using namespace billfish;
using billfish::cpu::OffloadFile;

namespace {

std::string temporary() { return std::filesystem::temp_directory_path().string(); }

std::string message_of(OffloadFile& file, size_t bytes) {
  try {
    file.allocate(bytes);
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "nothing";
}

// Pieces of the file, each filled with its number from 1 on.
std::vector<uint8_t*> fill_pieces(OffloadFile& file, const std::vector<size_t>& sizes) {
  std::vector<uint8_t*> pieces;
  for (const size_t bytes : sizes) {
    pieces.push_back(static_cast<uint8_t*>(file.allocate(bytes)));
    CHECK(reinterpret_cast<uintptr_t>(pieces.back()) % 64 == 0);
    for (size_t i = 0; i < bytes; ++i) CHECK(pieces.back()[i] == 0);
    std::memset(pieces.back(), static_cast<int>(pieces.size()), bytes);
  }
  return pieces;
}

void check_pieces(const std::vector<uint8_t*>& pieces, const std::vector<size_t>& sizes) {
  for (size_t p = 0; p < pieces.size(); ++p) {
    CHECK(std::all_of(pieces[p], pieces[p] + sizes[p], [&](uint8_t byte) { return byte == p + 1; }));
  }
}

// Files of this process may have no more than so many bytes.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

TEST(offload_file_keeps_what_is_written) {
  OffloadFile file(temporary(), "disk");
  const std::vector<size_t> sizes = {1, 64, 100, 0, 5000, size_t{3} << 20, 4096};
  const std::vector<uint8_t*> pieces = fill_pieces(file, sizes);
  file.flush();
  check_pieces(pieces, sizes);
}

TEST(offload_file_takes_more_than_a_window) {
  OffloadFile file(temporary(), "disk", 10000);
  const std::vector<size_t> sizes = {6000, 3000, 6000, 50000, 100, 9000};
  const std::vector<uint8_t*> pieces = fill_pieces(file, sizes);
  file.flush();
  check_pieces(pieces, sizes);
}

TEST(offload_file_leaves_no_name_behind) {
  const std::filesystem::path directory = std::filesystem::temp_directory_path() / "billfish-offload-test";
  std::filesystem::create_directory(directory);
  {
    OffloadFile file(directory.string(), "disk");
    static_cast<char*>(file.allocate(10000))[0] = 1;
    CHECK(std::filesystem::is_empty(directory));
  }
  CHECK(std::filesystem::is_empty(directory));
  std::filesystem::remove(directory);
}

TEST(offload_file_refuses_what_the_disk_has_no_room_for) {
  OffloadFile file(temporary(), "disk");
  file.allocate(1000);
  const std::string message = message_of(file, size_t{1} << 52);
  CHECK_MESSAGE(message.find("OUT_OF_MEMORY: Device disk has no room for 45035996273") == 0, message);
  CHECK_MESSAGE(message.find(temporary() + "', where ") != std::string::npos, message);
  CHECK_MESSAGE(message.find(" bytes are free: No space left on device. Set offloadDirectory") != std::string::npos,
                message);
  static_cast<char*>(file.allocate(1000))[999] = 1;  // it goes on working
}

// Growing a file beyond the limit would raise a signal that ends the process.
TEST(offload_file_refuses_to_exceed_the_limit_of_the_process) {
  OffloadFile file(temporary(), "disk");
  file.allocate(1000);
  const FileSizeLimit limit(1 << 20);
  const std::string message = message_of(file, 2 << 20);
  CHECK_MESSAGE(message.find("OUT_OF_MEMORY") == 0, message);
  CHECK_MESSAGE(message.find("limited to 1048576 bytes") != std::string::npos, message);
  CHECK(message_of(file, 500 << 10) == "nothing");
}

TEST(offload_file_needs_a_directory) {
  CHECK_THROWS(OffloadFile("/nowhere/at/all", "disk"), "INVALID_OPTION");
  CHECK_THROWS(make_backend("disk", {}), "INVALID_OPTION");
  CHECK_THROWS(make_backend("disk:1", {}), "DEVICE_NOT_FOUND");
}

TEST(weights_of_disk_devices_are_in_the_offload_file) {
  BackendOptions options;
  options.offload_directory = temporary();
  const auto backend = make_backend("disk", options);
  CHECK(backend->device() == "disk");
  backend->make_vector(std::vector<float>(1000, 2.0f));
  backend->allocate(100, MemoryUse::kv_cache);
  CHECK(backend->memory().weights == 4032);
  CHECK(backend->memory().kv_cache == 128);
  // The file has no room for more, but the memory has.
  const FileSizeLimit limit(4096);
  CHECK_THROWS(backend->make_vector(std::vector<float>(2000, 2.0f)), "OUT_OF_MEMORY");
  backend->allocate(100000, MemoryUse::buffers);
}
