// multiplyFloats, multiplyRows and addColumns: the sums of binding/padding/products.h, for slabs of a file.
#pragma once
#include <napi.h>

namespace billfish {

void init_products(Napi::Env env, Napi::Object exports);

}  // namespace billfish
