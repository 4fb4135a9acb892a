// How many cores this process may really use: the default size of the pool.
#pragma once

namespace billfish {

// The cores in this process' affinity mask, or fewer where a cgroup (v2) quota allows less CPU time: a quota of 2.5
// cores counts as 3. At least 1.
int available_cores();

}  // namespace billfish
