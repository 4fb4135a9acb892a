#include "cpu/offload_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "engine/error.h"

namespace billfish::cpu {
namespace {

size_t round_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }
size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

// A descriptor of an unnamed file, or -1 with errno.
int open_unnamed(const std::string& directory) {
#ifdef O_TMPFILE
  const int unnamed = open(directory.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
  // File systems that cannot create one fail in several ways.
  if (unnamed >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)) return unnamed;
#endif
  std::string path = directory + "/billfish-XXXXXX";
  const int named = mkstemp(path.data());
  if (named < 0) return -1;
  unlink(path.c_str());
  fcntl(named, F_SETFD, FD_CLOEXEC);
  return named;
}

// Extends the file to `end`, with disk space reserved from `begin` on. Returns 0 or an errno.
int reserve_blocks(int descriptor, uint64_t begin, uint64_t end) {
#ifdef __APPLE__
  fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(end - begin), 0};
  if (fcntl(descriptor, F_PREALLOCATE, &store) != 0) return errno;
  return ftruncate(descriptor, static_cast<off_t>(end)) == 0 ? 0 : errno;
#else
  int result;
  do {
    result = posix_fallocate(descriptor, static_cast<off_t>(begin), static_cast<off_t>(end - begin));
  } while (result == EINTR);
  return result;
#endif
}

}  // namespace

OffloadFile::OffloadFile(std::string directory, std::string device, size_t window_bytes)
    : directory_(std::move(directory)), device_(std::move(device)), window_bytes_(window_bytes) {
  descriptor_ = open_unnamed(directory_);
  if (descriptor_ >= 0) return;
  throw Error("INVALID_OPTION", "offloadDirectory: no file can be made in '" + directory_ +
                                    "': " + std::strerror(errno) + ". Device " + device_ +
                                    " keeps its weights there: name a directory that can be written to.");
}

OffloadFile::~OffloadFile() {
  for (const Window& window : windows_) munmap(window.data, window.bytes);
  close(descriptor_);
}

void* OffloadFile::allocate(size_t bytes) {
  if (bytes > SIZE_MAX / 2) disk_full(bytes, std::strerror(EFBIG));
  bytes = round_up(std::max<size_t>(bytes, 1), 64);
  if (windows_.empty() || bytes > windows_.back().bytes - windows_.back().used) open_window(bytes);
  Window& window = windows_.back();
  reserve(window.offset + window.used + bytes);
  window.used += bytes;
  return window.data + window.used - bytes;
}

void OffloadFile::open_window(size_t bytes) {
  if (!windows_.empty()) flush(windows_.back());
  Window window{};
  window.bytes = round_up(std::max(bytes, window_bytes_), page_bytes());
  window.offset = reserved_;  // after the earlier windows
  // Reserve space first: what the disk cannot hold is refused before anything is mapped.
  reserve(window.offset + bytes);
  void* const data =
      mmap(nullptr, window.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, static_cast<off_t>(window.offset));
  if (data == MAP_FAILED) {
    throw Error("OUT_OF_MEMORY", "Device " + device_ + ": " + std::to_string(window.bytes) + " bytes of a file in '" +
                                     directory_ + "' cannot be mapped: " + std::strerror(errno) + ".");
  }
  window.data = static_cast<char*>(data);
  windows_.push_back(window);
}

void OffloadFile::reserve(uint64_t end) {
  end = round_up(end, page_bytes());
  if (end <= reserved_) return;
  const uint64_t wanted = end - reserved_;
  // Checked first, since reserving would fill the disk before it fails, and exceeding the limit would raise SIGXFSZ.
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && end > limit.rlim_cur) {
    disk_full(wanted, "files are limited to " + std::to_string(limit.rlim_cur) + " bytes (ulimit -f)");
  }
  struct statvfs status {};
  const bool known = fstatvfs(descriptor_, &status) == 0 && status.f_blocks > 0;  // 0: no limit
  if (known && static_cast<uint64_t>(status.f_bavail) * status.f_frsize < wanted) {
    disk_full(wanted, std::strerror(ENOSPC));
  }
  const int failure = reserve_blocks(descriptor_, reserved_, end);
  if (failure != 0) disk_full(wanted, std::strerror(failure));
  reserved_ = end;
}

void OffloadFile::flush() {
  if (!windows_.empty()) flush(windows_.back());
}

void OffloadFile::flush(const Window& window) {
#ifdef __APPLE__
  const bool written = fsync(descriptor_) == 0;
#else
  const bool written = fdatasync(descriptor_) == 0;
#endif
  if (!written) disk_full(window.used, std::strerror(errno));
#ifdef MADV_COLD
  madvise(window.data, window.bytes, MADV_COLD);  // advice only
#endif
}

void OffloadFile::disk_full(uint64_t wanted, const std::string& reason) const {
  struct statvfs status {};
  const bool known = fstatvfs(descriptor_, &status) == 0;
  throw Error("OUT_OF_MEMORY",
              "Device " + device_ + " has no room for " + std::to_string(wanted) + " more bytes in '" + directory_ +
                  "'" +
                  (known ? ", where " + std::to_string(static_cast<uint64_t>(status.f_bavail) * status.f_frsize) +
                               " bytes are free"
                         : std::string()) +
                  ": " + reason + ". Set offloadDirectory to a larger disk, or move layers to another device.");
}

}  // namespace billfish::cpu
