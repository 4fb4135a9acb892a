#include "pin_module.h"

#include <dlfcn.h>

namespace billfish {

void pin_module() {
  Dl_info module;
  if (dladdr(reinterpret_cast<const void*>(&pin_module), &module) == 0) return;
  // The handle is not kept: RTLD_NODELETE marks the module itself, and closing the handle would not change that.
  dlopen(module.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace billfish
