// Fills a weight slab by slab on all threads, and reports progress.
#pragma once
#include <cstdint>

#include "checkpoint/loader.h"
#include "engine/error.h"
#include "engine/row_slabs.h"

namespace billfish {

// Calls fill(first, count) for slabs covering all rows of a weight, on all threads; the first error, or an abort, stops
// it. `bytes`: its total contribution to LoadControl::bytes_done.
template <class Fill>
void fill_in_slabs(int64_t rows, uint64_t bytes, LoadControl& control, Fill fill) {
  const auto bytes_before = [&](int64_t row) {
    return bytes * static_cast<uint64_t>(row) / static_cast<uint64_t>(rows);
  };
  for_each_slab(rows, [&](int64_t first, int64_t count) {
    if (control.cancelled.load(std::memory_order_relaxed)) throw Error("ABORTED", "Loading was aborted.");
    fill(first, count);
    control.bytes_done += bytes_before(first + count) - bytes_before(first);  // exact in total
    if (control.on_progress) control.on_progress();
  });
}

}  // namespace billfish
