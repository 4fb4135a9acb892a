// tryLockFile(descriptor): the advisory lock of an open file.
#pragma once
#include <napi.h>

namespace billfish {

void init_file_lock(Napi::Env env, Napi::Object exports);

}  // namespace billfish
