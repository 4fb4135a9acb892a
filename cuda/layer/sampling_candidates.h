// The candidates of one row, highest first, in chunks of at most 1024 in shared memory. The block rereads the logits
// for every chunk, so no buffer of the vocabulary's size is needed.
//
// A chunk is found by radix select: candidates are counted by the upper 11 bits of their keys, and as many whole bins
// as fit are taken from the top; if not even the highest fits, it is counted by the next 11 bits, and so on.
#pragma once
#include <cstdint>

#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/reduce.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

// --- The arithmetic of engine/sampling.cc, operation by operation: rounding happens exactly where the host rounds.

// exp((logit - highest) / temperature), so that the highest logit has weight 1.
struct Softmax {
  float highest, inverse_temperature;

  DEVICE float weight(float logit) const {
    constexpr float lowest_exponent = -88.0f;  // exp is 0 here and below
    const float exponent = multiply_rounded(add_rounded(logit, -highest), inverse_temperature);
    return exp_of(exponent > lowest_exponent ? exponent : lowest_exponent);
  }

 private:
  //   x = k ln 2 + r with |r| <= ln 2 / 2;  exp(x) = 2^k * (Taylor polynomial of r)
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the lowest bits; 2^k has k + 127 in its exponent.
  DEVICE static float exp_of(float x) {
    constexpr float round = 12582912.0f;
    const float shifted = add_rounded(multiply_rounded(x, 1.44269504f), round);
    const float k = add_rounded(shifted, -round);
    const float r =
        add_rounded(add_rounded(x, -multiply_rounded(k, 0.693359375f)), multiply_rounded(k, 2.12194440e-4f));
    float p = 1.0f / 5040;
    p = add_rounded(multiply_rounded(p, r), 1.0f / 720);
    p = add_rounded(multiply_rounded(p, r), 1.0f / 120);
    p = add_rounded(multiply_rounded(p, r), 1.0f / 24);
    p = add_rounded(multiply_rounded(p, r), 1.0f / 6);
    p = add_rounded(multiply_rounded(p, r), 0.5f);
    p = add_rounded(multiply_rounded(p, r), 1.0f);
    p = add_rounded(multiply_rounded(p, r), 1.0f);
    return multiply_rounded(p, bit_cast<float>((bit_cast<uint32_t>(shifted) + 127u) << 23));
  }
};

// A sort key of a logit and its token, higher for candidates that rank earlier: by the higher logit, then (-0 equals 0)
// the lower token. 0 is below every candidate.
//
//   bits 63..32  the float's bits, as a number in the order of floats     bits 31..0  2^32 - 1 - token
struct RankKey {
  DEVICE static uint64_t of(float logit, uint32_t token) {
    const auto bits = bit_cast<uint32_t>(add_rounded(logit, 0.0f));
    const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    return uint64_t{ordered} << 32 | (0xffffffffu - token);
  }
  DEVICE static float logit(uint64_t key) {
    const auto ordered = static_cast<uint32_t>(key >> 32);
    return bit_cast<float>((ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered);
  }
  DEVICE static uint32_t token(uint64_t key) { return 0xffffffffu - static_cast<uint32_t>(key); }
};

// --- The candidates.

constexpr uint32_t sample_threads = 512, chunk_capacity = 1024;
constexpr uint32_t digit_bits = 11, digits = 1u << digit_bits;

// The shared memory of a sampling block.
struct SampleMemory {
  Shared<uint64_t> keys;      // [chunk_capacity]
  Shared<float> weights;      // [chunk_capacity]
  Shared<uint32_t> counts;    // [digits]
  Shared<uint64_t> scratch;   // [32], of reductions
  Shared<double> double_out;  // [2], broadcast by one thread
  Shared<uint32_t> word_out;  // [4]
  Shared<double> block_sums;  // [blocks of the vocabulary]

  static constexpr uint32_t keys_bytes = chunk_capacity * 8, weights_bytes = chunk_capacity * 4;
  static constexpr uint32_t fixed_bytes = keys_bytes + weights_bytes + digits * 4 + 32 * 8 + 2 * 8 + 4 * 4;
  DEVICE static SampleMemory of_block() {
    SampleMemory memory;
    uint32_t at = 0;
    memory.keys = shared_memory<uint64_t>(at), at += keys_bytes;
    memory.weights = shared_memory<float>(at), at += weights_bytes;
    memory.counts = shared_memory<uint32_t>(at), at += digits * 4;
    memory.scratch = shared_memory<uint64_t>(at), at += 32 * 8;
    memory.double_out = shared_memory<double>(at), at += 2 * 8;
    memory.word_out = shared_memory<uint32_t>(at), at += 4 * 4;
    memory.block_sums = shared_memory<double>(at);
    return memory;
  }
};

struct Logits {
  Global<float> values;
  uint32_t vocab;
  uint32_t in_fours;                    // tokens that may be read 16 bytes at a time
  Global<const uint32_t> allowed = {};  // a bit a token: the logits of others read as -infinity
  bool has_allowed = false;

  DEVICE float of(uint32_t token) const { return admitted(values[token], token); }

  // Calls visit(logit, token) for all logits, spread over the block's threads. A single multiprocessor reads the row,
  // so the bytes in flight decide the speed: loads are wide.
  template <class Visit>
  DEVICE void for_each(const Visit& visit) const {
    UNROLL for (uint32_t token = 4 * thread_index().x; token < in_fours; token += 4 * sample_threads) {
      const auto logits = load_as<float4>(values + token);
      visit(admitted(logits.x, token), token);
      visit(admitted(logits.y, token + 1), token + 1);
      visit(admitted(logits.z, token + 2), token + 2);
      visit(admitted(logits.w, token + 3), token + 3);
    }
    for (uint32_t token = in_fours + thread_index().x; token < vocab; token += sample_threads) {
      const float logit = of(token);
      visit(logit, token);
    }
  }

 private:
  DEVICE float admitted(float logit, uint32_t token) const {
    if (!has_allowed) return logit;
    const uint32_t word = allowed[token / 32];
    return (word >> (token % 32) & 1u) != 0 ? logit : -infinity;
  }
};

// Which logits are candidates at all.
struct CandidateFilter {
  Softmax softmax;
  float least;   // minimum weight; 0: any logit above -infinity
  uint64_t bar;  // key

  DEVICE bool admits(float logit, uint64_t key) const {
    if (key < bar || logit == -infinity) return false;
    if (least <= 0) return true;
    const float weight = softmax.weight(logit);
    return weight >= least && weight > 0;
  }
};

class Candidates {
 public:
  DEVICE Candidates(const Logits& logits, const CandidateFilter& filter, const SampleMemory& memory)
      : logits_(logits), filter_(filter), memory_(memory) {}

  // Visits the candidates in order on the block's first thread; visit(weight, token) returns whether to go on. All
  // threads call it, and may read broadcast values when it returns.
  template <class Visit>
  DEVICE void for_each(const Visit& visit) {
    uint64_t upper = ~uint64_t{0};
    while (true) {
      load_chunk(upper);
      if (count_ == 0) break;
      if (thread_index().x == 0) {
        bool more = true;
        for (uint32_t i = 0; i < count_ && more; ++i) {
          const uint64_t key = memory_.keys[i];
          more = visit(float(memory_.weights[i]), key);
        }
        memory_.word_out[0] = more ? 1 : 0;
      }
      sync_threads();
      const uint32_t more = memory_.word_out[0];
      sync_threads();
      if (more == 0) break;
      upper = lower_;
    }
  }

  // A key that at least `count` (at most sample_threads) candidates reach: the count-th highest of the threads' maxima.
  DEVICE static uint64_t bar(const Logits& logits, uint32_t count, const SampleMemory& memory) {
    uint64_t highest = 0;
    logits.for_each([&](float logit, uint32_t token) {
      if (logit > -infinity) highest = max(highest, RankKey::of(logit, token));
    });
    memory.keys[thread_index().x] = highest;
    sync_threads();
    sort(sample_threads, memory);
    const uint64_t key = memory.keys[count - 1];
    sync_threads();
    return key;
  }

 private:
  // Loads the next chunk, the candidates below `upper`, into shared memory: count_ keys from lower_ on, sorted, with
  // their weights.
  DEVICE void load_chunk(uint64_t upper) {
    if (loaded_ && upper == upper_) return;
    loaded_ = true;
    upper_ = upper;
    lower_ = find_lower();
    gather();
    uint32_t size = 1;
    while (size < count_) size *= 2;
    for (uint32_t i = count_ + thread_index().x; i < size; i += sample_threads) memory_.keys[i] = 0;
    sync_threads();
    sort(size, memory_);
    for (uint32_t i = thread_index().x; i < count_; i += sample_threads) {
      const uint64_t key = memory_.keys[i];
      memory_.weights[i] = filter_.softmax.weight(RankKey::logit(key));
    }
    sync_threads();
  }

  template <class Visit>
  DEVICE void for_each_key(const Visit& visit) const {
    logits_.for_each([&](float logit, uint32_t token) {
      const uint64_t key = RankKey::of(logit, token);
      if (key < upper_ && filter_.admits(logit, key)) visit(key);
    });
  }

  // The lowest key of the chunk.
  DEVICE uint64_t find_lower() const {
    uint64_t prefix = 0, mask = 0;
    uint32_t shift = 64 - digit_bits;
    while (true) {
      for (uint32_t i = thread_index().x; i < digits; i += sample_threads) memory_.counts[i] = 0;
      sync_threads();
      for_each_key([&](uint64_t key) {
        if ((key & mask) == prefix) {
          atomic_add(memory_.counts + static_cast<int32_t>(key >> shift & (digits - 1)), 1u);
        }
      });
      sync_threads();
      if (warp_index() == 0) find_cut();
      sync_threads();
      const uint32_t cut = memory_.word_out[0], taken = memory_.word_out[1];
      sync_threads();
      if (cut == digits) return prefix;  // all fit
      if (taken > 0) return prefix + ((uint64_t{cut} + 1) << shift);
      prefix |= uint64_t{cut} << shift;
      mask |= uint64_t{digits - 1} << shift;
      shift -= digit_bits;  // never below 9: a digit there covers 512 keys, which fit
    }
  }

  // On the first warp: the highest digit whose candidates no longer fit (`digits` if all do), and how many are above
  // it.
  DEVICE void find_cut() const {
    constexpr uint32_t lane_digits = digits / 32;
    const uint32_t lane = lane_index(), top = digits - lane * lane_digits;  // this lane's digits end here
    uint32_t own = 0;
    for (uint32_t i = 1; i <= lane_digits; ++i) own += uint32_t{memory_.counts[top - i]};
    uint32_t through = own;  // candidates of this lane's digits and all above
    for (uint32_t step = 1; step < 32; step *= 2) {
      const uint32_t above = shuffle_up(through, step);
      if (lane >= step) through += above;
    }
    const uint32_t over = ballot(through > chunk_capacity);
    if (over == 0) {
      if (lane == 0) {
        memory_.word_out[0] = digits;
        memory_.word_out[1] = 0;
      }
      return;
    }
    if (lane + 1 != static_cast<uint32_t>(find_first_set(over))) return;
    uint32_t taken = through - own, digit = top - 1;
    while (taken + uint32_t{memory_.counts[digit]} <= chunk_capacity) taken += uint32_t{memory_.counts[digit--]};
    memory_.word_out[0] = digit;
    memory_.word_out[1] = taken;
  }

  DEVICE void gather() {
    if (thread_index().x == 0) memory_.word_out[0] = 0;
    sync_threads();
    for_each_key([&](uint64_t key) {
      if (key >= lower_) memory_.keys[atomic_add(memory_.word_out, 1u)] = key;
    });
    sync_threads();
    count_ = memory_.word_out[0];
    sync_threads();
  }

  // Bitonic, the highest key first; `size` is a power of two.
  DEVICE static void sort(uint32_t size, const SampleMemory& memory) {
    for (uint32_t run = 2; run <= size; run *= 2) {
      for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
        for (uint32_t i = thread_index().x; i < size / 2; i += sample_threads) {
          const uint32_t low = i / distance * 2 * distance + i % distance, high = low + distance;
          const uint64_t a = memory.keys[low], b = memory.keys[high];
          const bool descending = (low & run) == 0;
          if ((a < b) == descending) {
            memory.keys[low] = b;
            memory.keys[high] = a;
          }
        }
        sync_threads();
      }
    }
  }

  const Logits& logits_;
  const CandidateFilter& filter_;
  const SampleMemory& memory_;
  bool loaded_ = false;
  uint64_t upper_ = 0, lower_ = 0;
  uint32_t count_ = 0;
};

}  // namespace billfish::BILLFISH_TARGET
