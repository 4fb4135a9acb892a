#include "exports.h"

#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "convert.h"

namespace billfish {

// true: this open file has the lock now, until it is closed, which the kernel does for a process that dies.
// false: another open file, of this process or another one, has it.
// @throws INTERNAL where the file system has no locks
static Napi::Value try_lock_file(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto descriptor = static_cast<int>(to_integer(info[0], "descriptor", 0, std::numeric_limits<int>::max()));
    int result = 0;
    do {
      result = flock(descriptor, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result != 0 && errno != EWOULDBLOCK) throw Error("INTERNAL", std::string("flock: ") + std::strerror(errno));
    return Napi::Boolean::New(info.Env(), result == 0);
  });
}

void init_file_lock(Napi::Env env, Napi::Object exports) {
  exports.Set("tryLockFile", Napi::Function::New(env, try_lock_file, "tryLockFile"));
}

}  // namespace billfish
