// Structured output's matchers, as steps take them.
#pragma once
#include <napi.h>

#include <memory>

#include "grammar/matcher.h"

namespace billfish {

// The matcher behind a JavaScript one. Throws Error INVALID_OPTION for any other value.
std::shared_ptr<Matcher> to_matcher(const Napi::Value& value, const char* name);

}  // namespace billfish
