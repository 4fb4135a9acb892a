// File-backed memory for weights offloaded to disk: a shared mapping of an unlinked file, so that nothing remains of it
// however the process ends. The kernel writes pages out and drops them when memory is short, and reads them back on
// use.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace billfish::cpu {

class OffloadFile {
 public:
  // The file is mapped in windows of this size, which are written out once they are full: loading never fills the
  // memory with pages that wait to be written.
  static constexpr size_t usual_window = size_t{256} << 20;

  // Makes the file in `directory`. Throws INVALID_OPTION naming the directory and the reason.
  OffloadFile(std::string directory, std::string device, size_t window_bytes = usual_window);
  ~OffloadFile();
  OffloadFile(const OffloadFile&) = delete;
  OffloadFile& operator=(const OffloadFile&) = delete;

  // Zeroed, at a multiple of 64 bytes, valid as long as the object. Its place on disk is reserved: throws OUT_OF_MEMORY
  // naming the directory, the bytes wanted and those free there, so that writing to the memory cannot fail later.
  void* allocate(size_t bytes);

  // Call when all memory has been filled: waits until it is on disk, and lets the kernel drop its pages first of all.
  // Throws OUT_OF_MEMORY if it cannot be written.
  void flush();

 private:
  // A window may reach beyond the file's end: it grows into the last one.
  struct Window {
    char* data;
    size_t bytes;  // mapped
    size_t used;
    uint64_t offset;  // in the file
  };

  void open_window(size_t bytes);
  void reserve(uint64_t end);
  void flush(const Window& window);
  [[noreturn]] void disk_full(uint64_t wanted, const std::string& reason) const;

  std::string directory_, device_;
  size_t window_bytes_;
  int descriptor_ = -1;
  uint64_t reserved_ = 0;  // bytes of the file
  std::vector<Window> windows_;
};

}  // namespace billfish::cpu
