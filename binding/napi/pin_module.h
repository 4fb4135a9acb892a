// Keeps the addon loaded. Node.js unloads an addon when the last environment that uses it ends; threads of the shared
// pool would then run unmapped code, which is how addons crash at the end of a worker_threads Worker.
#pragma once

namespace billfish {

// Keeps this addon's code loaded for good. Called once per environment; more calls are harmless.
void pin_module();

}  // namespace billfish
