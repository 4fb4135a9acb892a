// Operators as TypeScript hands them over: objects with `op`, the operator's name, and the fields that its declaration
// (engine/operators.h) lists.
#pragma once
#include <napi.h>

#include "engine/operators.h"

namespace billfish {

// Throws INTERNAL, naming operator and field, for a name that no operator has and for fields that are missing, of
// another type, or too many: operators come from our own tracer.
Operator parse_operator(const Napi::Object& object);

}  // namespace billfish
