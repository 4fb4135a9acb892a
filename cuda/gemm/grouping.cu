#include "gemm/grouping.h"

#include <algorithm>

#include "cuda/memory/grouping_layout.h"
#include "layer/vector.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {
namespace {

constexpr int32_t max_sort_threads = 1024;

// A counting sort by one block: counts by expert in shared memory, their sums, and every slot to its place. The order
// of an expert's slots is any, and does not change what any of them becomes.
struct GroupSlots {
  static constexpr int max_threads = max_sort_threads;
  Global<const float> routing;
  int64_t stride;
  int32_t threads, per_token, count, first, experts, tile_tokens;  // count: slots
  Global<int32_t> tile_count;
  Global<uint32_t> tiles;
  Global<int32_t> slots;

  // Shared memory: the next place of every expert, then a sum of each thread's.
  struct Sums {
    int32_t slots, tiles;
  };

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const Shared<int32_t> places = shared_memory<int32_t>();
    const Shared<Sums> sums = shared_memory<Sums>(sums_offset(experts));
    const auto thread = static_cast<int32_t>(thread_index().x);
    const int32_t bins = experts + 1, bins_each = ceil_div(bins, threads);
    for (int32_t bin = thread; bin < bins; bin += threads) places[bin] = 0;
    sync_threads();
    for (int32_t slot = thread; slot < count; slot += threads) atomic_add(places + bin_of(slot), 1);
    sync_threads();

    // Every thread sums its own bins, then all threads' sums are added up (Hillis and Steele).
    const int32_t begin = min(thread * bins_each, bins), end = min(begin + bins_each, bins);
    Sums own = {};
    for (int32_t bin = begin; bin < end; ++bin) {
      const int32_t rows = places[bin];
      own.slots += rows;
      own.tiles += ceil_div(rows, tile_tokens);
    }
    Sums sum = own;
    for (int32_t distance = 1; distance < threads; distance *= 2) {
      sums[thread] = sum;
      sync_threads();
      if (thread >= distance) {
        const Sums before = sums[thread - distance];
        sum.slots += before.slots;
        sum.tiles += before.tiles;
      }
      sync_threads();
    }
    if (thread == threads - 1) tile_count[0] = sum.tiles;

    int32_t row = sum.slots - own.slots, tile = sum.tiles - own.tiles;
    for (int32_t bin = begin; bin < end; ++bin) {
      const int32_t rows_end = row + places[bin];
      places[bin] = row;
      for (; row < rows_end; row = min(row + tile_tokens, rows_end), ++tile) {
        const auto tile_end = static_cast<uint32_t>(min(row + tile_tokens, rows_end));
        store_as<uint4>(tiles + 4 * tile, {static_cast<uint32_t>(bin), static_cast<uint32_t>(row), tile_end, 0});
      }
    }
    sync_threads();
    for (int32_t slot = thread; slot < count; slot += threads) {
      slots[atomic_add(places + bin_of(slot), 1)] = slot;
    }
  }

  HOST_DEVICE static constexpr uint32_t sums_offset(int32_t experts) {
    return static_cast<uint32_t>((experts + 1 + 1) / 2 * 2) * sizeof(int32_t);
  }
  static constexpr uint32_t shared_bytes(int32_t experts, int32_t threads) {
    return sums_offset(experts) + static_cast<uint32_t>(threads) * static_cast<uint32_t>(sizeof(Sums));
  }
  // One for each slot and each expert, as long as a block has them: every doubling costs two barriers.
  static constexpr int32_t threads_for(int32_t count, int32_t experts) {
    int32_t threads = 32;
    while (threads < max_sort_threads && threads < std::max(count, experts + 1)) threads *= 2;
    return threads;
  }

 private:
  DEVICE int32_t bin_of(int32_t slot) const {
    const int32_t token = slot / per_token;
    const float chosen = routing[token * stride + (slot - token * per_token)];
    const int32_t expert = static_cast<int32_t>(chosen) - first;
    return expert >= 0 && expert < experts ? expert : experts;
  }
};

}  // namespace

Grouping group_slots(Stream& stream, const Matrix<const float>& routing, int32_t first, int32_t experts,
                     int32_t tile_tokens, void* memory) {
  const auto per_token = static_cast<int32_t>(routing.columns / 2);
  const int64_t count = routing.rows * per_token;
  const gpu::GroupingLayout layout(count, experts);
  auto* const bytes = static_cast<uint8_t*>(memory);
  const Grouping grouping{reinterpret_cast<int32_t*>(bytes), reinterpret_cast<uint32_t*>(bytes + layout.tiles),
                          reinterpret_cast<int32_t*>(bytes + layout.slots)};
  const int32_t threads = GroupSlots::threads_for(static_cast<int32_t>(count), experts);
  launch(stream,
         {.grid = {1},
          .block = {static_cast<uint32_t>(threads)},
          .shared_bytes = GroupSlots::shared_bytes(experts, threads),
          .programmatic = true},
         GroupSlots{routing.data, routing.stride, threads, per_token, static_cast<int32_t>(count), first, experts,
                    tile_tokens, grouping.tile_count, grouping.tiles, grouping.slots});
  return grouping;
}

}  // namespace billfish::BILLFISH_TARGET
