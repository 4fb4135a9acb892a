// A read-only memory mapping of a checkpoint file.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/sigbus_guard.h"
#include "checkpoint/weight_spec.h"

namespace billfish {

class MappedFile {
 public:
  // Throws INVALID_CHECKPOINT naming the path and the system's reason.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  uint64_t size() const noexcept { return size_; }

  // The bytes [offset, offset + bytes). Throws INVALID_CHECKPOINT if they are outside the file, or if the file has been
  // truncated since it was mapped.
  const uint8_t* at(uint64_t offset, uint64_t bytes, const std::string& what) const;

  // Call after reading: throws INVALID_CHECKPOINT if pages were unreadable and replaced by zeros.
  void check_pages() const;

  // Tells the kernel that these bytes will be read soon, in no particular order.
  void prefetch(uint64_t offset, uint64_t bytes) const noexcept;

  // Tells the kernel that these bytes will not be read again, so that loading does not hold the whole file in memory.
  void release(uint64_t offset, uint64_t bytes) const noexcept;

 private:
  std::string path_;
  uint64_t size_ = 0;
  int descriptor_ = -1;
  const uint8_t* data_ = nullptr;
  std::optional<SigbusGuard> watch_;
};

using MappedFiles = std::vector<std::shared_ptr<MappedFile>>;

// MappedFile::check_pages() of all files.
inline void check_pages(const MappedFiles& files) {
  for (const std::shared_ptr<MappedFile>& file : files) file->check_pages();
}

}  // namespace billfish
