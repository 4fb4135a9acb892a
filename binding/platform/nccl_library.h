// NCCL, if installed: for ranks without peer access. It is loaded on first use, so that nothing needs it to build or to
// start, and never unloaded.
#pragma once
#include <cstddef>
#include <string>

namespace billfish {

// The library functions that billfish calls; all present if `reason` is empty. Their types are those of nccl.h (as of
// NCCL 2.27; unchanged since 2.7), with void* for communicators and streams and int for enumerations.
struct NcclLibrary {
  std::string path;        // what was loaded
  std::string reason;      // why there is none
  int version = 0;         // 10000 * major + 100 * minor + patch
  bool requested = false;  // it was named explicitly
  bool emulated = false;   // it takes streams of emulated devices only: the tests' fake

  int (*init_all)(void** communicators, int count, const int* devices) = nullptr;
  int (*destroy)(void* communicator) = nullptr;
  int (*abort)(void* communicator) = nullptr;
  int (*get_async_error)(void* communicator, int* status) = nullptr;
  int (*all_reduce)(const void* from, void* to, size_t count, int type, int operation, void* communicator,
                    void* stream) = nullptr;
  int (*send)(const void* from, size_t count, int type, int to_rank, void* communicator, void* stream) = nullptr;
  int (*receive)(void* to, size_t count, int type, int from_rank, void* communicator, void* stream) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  const char* (*error_text)(int status) = nullptr;

  // Throws INTERNAL, or OUT_OF_MEMORY if NCCL is out of memory, naming the call and its status.
  void check(int status, const std::string& call) const;
};

// Values of nccl.h's enumerations.
constexpr int nccl_success = 0, nccl_in_progress = 7;
constexpr int nccl_int8 = 0, nccl_float32 = 7;
constexpr int nccl_sum = 0;

// Before 2.9 versions were encoded differently; 2.7 is the first one with sends.
constexpr int min_nccl_version = 20900;

// Loads it from `wanted`, a path or a name for the dynamic linker. null, "" or "auto": libnccl.so.2; "off": not at all.
NcclLibrary load_nccl(const char* wanted);

// The library of BILLFISH_NCCL's current value, loaded by the first call with that value; from any thread.
const NcclLibrary& nccl_library();

// 22703 -> "2.27.3"
std::string nccl_version_text(int version);

}  // namespace billfish
