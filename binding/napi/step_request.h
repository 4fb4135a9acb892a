// Steps between JavaScript and the engine (StepRequest and StepOutput of src/native/addon.ts).
#pragma once
#include <napi.h>

#include <memory>

#include "engine/step.h"

namespace billfish {

std::shared_ptr<Step> parse_step(const Napi::Object& request);
Napi::Object step_output(Napi::Env env, Step& step);

}  // namespace billfish
