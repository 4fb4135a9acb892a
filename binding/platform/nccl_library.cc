#include "platform/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "engine/error.h"

namespace billfish {

namespace {

// Looks up `function` in the library; false, with the reason, if it is missing.
template <class Function>
bool find(void* handle, const char* name, NcclLibrary& library, Function& function) {
  function = reinterpret_cast<Function>(dlsym(handle, name));
  if (function == nullptr) library.reason = library.path + " has no function " + name + ".";
  return function != nullptr;
}

}  // namespace

void NcclLibrary::check(int status, const std::string& call) const {
  if (status == nccl_success) return;
  constexpr int unhandled_cuda_error = 1;
  const std::string text = error_text(status);
  const bool no_memory = status == unhandled_cuda_error && text.find("memory") != std::string::npos;
  throw Error(no_memory ? "OUT_OF_MEMORY" : "INTERNAL",
              "NCCL: " + call + " failed with '" + text + "' (" + std::to_string(status) +
                  "). NCCL_DEBUG=WARN makes NCCL say more; BILLFISH_NCCL=off does without NCCL.");
}

NcclLibrary load_nccl(const char* wanted) {
  NcclLibrary library;
  const std::string name = wanted == nullptr ? "" : wanted;
  if (name == "off") {
    library.reason = "BILLFISH_NCCL is 'off'.";
    return library;
  }
  library.requested = !name.empty() && name != "auto";
  library.path = library.requested ? name : "libnccl.so.2";
  void* const handle = dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    library.reason = library.requested
                         ? "BILLFISH_NCCL names '" + name + "', which cannot be loaded: " + dlerror() + "."
                         : "libnccl.so.2 was not found. Install NCCL, put its folder into LD_LIBRARY_PATH, "
                           "or name its file in BILLFISH_NCCL.";
    return library;
  }
  library.emulated = dlsym(handle, "billfish_takes_emulated_streams") != nullptr;
  int (*get_version)(int*) = nullptr;
  if (find(handle, "ncclGetVersion", library, get_version) &&
      find(handle, "ncclGetErrorString", library, library.error_text) &&
      find(handle, "ncclCommInitAll", library, library.init_all) &&
      find(handle, "ncclCommDestroy", library, library.destroy) &&
      find(handle, "ncclCommAbort", library, library.abort) &&
      find(handle, "ncclCommGetAsyncError", library, library.get_async_error) &&
      find(handle, "ncclAllReduce", library, library.all_reduce) && find(handle, "ncclSend", library, library.send) &&
      find(handle, "ncclRecv", library, library.receive) &&
      find(handle, "ncclGroupStart", library, library.group_start) &&
      find(handle, "ncclGroupEnd", library, library.group_end)) {
    get_version(&library.version);
    if (library.version < min_nccl_version) {
      library.reason = library.path + " is NCCL " + nccl_version_text(library.version) + "; " +
                       nccl_version_text(min_nccl_version) + " or later is needed.";
    }
  }
  return library;
}

const NcclLibrary& nccl_library() {
  static std::mutex mutex;
  static auto& loaded = *new std::map<std::string, NcclLibrary>;
  const char* const given = std::getenv("BILLFISH_NCCL");
  const std::string wanted = given == nullptr ? "" : given;
  const std::lock_guard lock(mutex);
  auto library = loaded.find(wanted);
  if (library == loaded.end()) library = loaded.emplace(wanted, load_nccl(wanted.c_str())).first;
  return library->second;
}

std::string nccl_version_text(int version) {
  if (version < 10000) version = version / 1000 * 10000 + version % 1000 / 100 * 100 + version % 100;  // before 2.9
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace billfish
