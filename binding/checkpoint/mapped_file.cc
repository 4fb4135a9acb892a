#include "checkpoint/mapped_file.h"

#ifdef _WIN32
#error \
    "MappedFile needs an implementation with CreateFileMapping and MapViewOfFile; the rest of checkpoint/ is portable"
#endif

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/error.h"

namespace billfish {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw Error("INVALID_CHECKPOINT", path + " cannot be " + what + ": " + std::strerror(errno));
}

// The whole pages inside [offset, offset + bytes): pages at the ends may hold bytes of other tensors.
struct PageRange {
  PageRange(uint64_t offset, uint64_t bytes) {
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    begin = (offset + page - 1) / page * page;
    end = (offset + bytes) / page * page;
  }
  uint64_t begin, end;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail(path, "opened");
  struct stat status;
  try {
    if (fstat(descriptor_, &status) != 0) fail(path, "read");
    if (!S_ISREG(status.st_mode)) throw Error("INVALID_CHECKPOINT", path + " is not a regular file");
    if (status.st_size <= 0) throw Error("INVALID_CHECKPOINT", path + " is empty; download it again");
    size_ = static_cast<uint64_t>(status.st_size);
    void* data = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (data == MAP_FAILED) fail(path, "mapped into memory");
    data_ = static_cast<const uint8_t*>(data);
    watch_.emplace(data, size_);
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

MappedFile::~MappedFile() {
  watch_.reset();
  munmap(const_cast<uint8_t*>(data_), size_);
  close(descriptor_);
}

const uint8_t* MappedFile::at(uint64_t offset, uint64_t bytes, const std::string& what) const {
  const auto refuse = [&](uint64_t size, const char* reason) {
    throw Error("INVALID_CHECKPOINT", what + " claims " + std::to_string(bytes) + " bytes from byte " +
                                          std::to_string(offset) + " on, but " + path_ + " has " +
                                          std::to_string(size) + " bytes" + reason);
  };
  if (offset > size_ || bytes > size_ - offset) refuse(size_, "; download the file again");
  struct stat status;
  const bool known = fstat(descriptor_, &status) == 0 && status.st_size >= 0;
  const uint64_t now = known ? static_cast<uint64_t>(status.st_size) : 0;
  if (offset + bytes > now) refuse(now, ": it has become shorter while it was being read");
  return data_ + offset;
}

void MappedFile::check_pages() const {
  if (!watch_->has_faulted()) return;
  throw Error("INVALID_CHECKPOINT", path_ +
                                        " could not be read to its end: it has become shorter while it was being read, "
                                        "or what it is stored on has failed. Check the file, and load again.");
}

void MappedFile::prefetch(uint64_t offset, uint64_t bytes) const noexcept {
  const PageRange pages(offset, bytes);
  if (pages.begin < pages.end && pages.end <= size_) {
    madvise(const_cast<uint8_t*>(data_) + pages.begin, pages.end - pages.begin, MADV_WILLNEED);
  }
}

void MappedFile::release(uint64_t offset, uint64_t bytes) const noexcept {
  const PageRange pages(offset, bytes);
  if (pages.begin < pages.end && pages.end <= size_) {
    madvise(const_cast<uint8_t*>(data_) + pages.begin, pages.end - pages.begin, MADV_DONTNEED);
  }
}

}  // namespace billfish
