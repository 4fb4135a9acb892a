#include "layer/sampling.h"

#include "layer/sampling_candidates.h"
#include "layer/vector.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {
namespace {

constexpr uint32_t sum_block = 1024, sum_lanes = 16;  // as in engine/sampling.cc: they define the order of additions

// One block samples one row. It reads the logits two to six times, mostly from L2: 600 KB take about 10 us per pass on
// one multiprocessor; the rows of a step run in parallel.
struct SampleRow {
  static constexpr int max_threads = sample_threads;
  Global<float> logits;
  int64_t stride;
  uint32_t vocab, in_fours;
  Global<const SampleRequest> requests;
  Global<LogitEdit> edits;
  Global<SampleAnswer> answers;
  Global<Alternative> alternatives;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const auto row = static_cast<int64_t>(block_index().x);
    const SampleRequest request = requests[row];
    SampleAnswer answer = {};
    if (request.active != 0) {
      const Logits row_logits{logits + row * stride, vocab, in_fours};
      sample(row_logits, request, SampleMemory::of_block(), answer);
    }
    if (thread_index().x == 0) answers[row] = answer;
  }

 private:
  struct Highest {
    float logit;
    uint32_t token;
    uint32_t invalid;  // the first token whose logit is NaN, +infinity or, before edits, -infinity; vocab if none is
  };

  // `answer` is valid on the first thread.
  DEVICE void sample(const Logits& row_logits, const SampleRequest& request, const SampleMemory& memory,
                     SampleAnswer& answer) const {
    Highest highest = find_highest<false>(row_logits, memory);
    if (highest.invalid != vocab) {
      answer.status = SampleAnswer::non_finite;
      return;
    }
    answer.highest = highest.logit;
    if (request.alternatives >= 0) {
      const Softmax softmax{highest.logit, 1.0f};
      answer.total = sum_weights(row_logits, softmax, memory);
      answer.alternatives = find_alternatives(row_logits, softmax, request, memory);
    }
    Logits choices = row_logits;
    if (request.allowed >= 0) {
      choices.allowed = pointer_cast<const uint32_t>(edits + request.allowed);
      choices.has_allowed = true;
    }
    if (request.edits > 0) apply_edits(row_logits, request);
    if (request.edits > 0 || choices.has_allowed) highest = find_highest<true>(choices, memory);
    uint32_t token = highest.token;
    const bool may_choose = valid(choices, highest, answer) && highest.logit > -infinity;
    if (highest.logit == -infinity) answer.status = SampleAnswer::none_left;
    if (may_choose && request.inverse_temperature > 0) token = choose(choices, highest.logit, request, memory);
    sync_threads();
    restore_edits(row_logits, request);
    if (!may_choose) return;
    answer.token = static_cast<int32_t>(token);
    answer.logit = row_logits.values[token];
  }

  template <bool with_bans>
  DEVICE Highest find_highest(const Logits& row, const SampleMemory& memory) const {
    uint64_t key = 0;
    uint32_t invalid = vocab;
    row.for_each([&](float logit, uint32_t token) {
      if (logit < infinity && (with_bans || logit > -infinity)) {
        key = max(key, RankKey::of(logit, token));
      } else {
        invalid = min(invalid, token);
      }
    });
    key = block_reduce(
        key, [](uint64_t a, uint64_t b) { return max(a, b); }, memory.scratch);
    const uint64_t first = block_reduce(
        uint64_t{invalid}, [](uint64_t a, uint64_t b) { return min(a, b); }, memory.scratch);
    return {RankKey::logit(key), RankKey::token(key), static_cast<uint32_t>(first)};
  }
  DEVICE bool valid(const Logits& row, const Highest& highest, SampleAnswer& answer) const {
    if (highest.invalid == vocab) return true;
    answer.status = SampleAnswer::invalid_logit;
    answer.token = static_cast<int32_t>(highest.invalid);
    answer.logit = row.values[highest.invalid];
    return false;
  }

  DEVICE void apply_edits(const Logits& row, const SampleRequest& request) const {
    for_each_edit(request, [&](int32_t at) {
      LogitEdit edit = edits[at];
      const float logit = row.values[edit.token];
      row.values[edit.token] = edited(logit, edit);
      edit.penalty = logit;
      edits[at] = edit;
    });
  }
  DEVICE static float edited(float logit, const LogitEdit& edit) {
    const float repeated = logit > 0 ? logit / edit.repetition : multiply_rounded(logit, edit.repetition);
    return edit.bias == -infinity ? -infinity : add_rounded(add_rounded(repeated, -edit.penalty), edit.bias);
  }
  DEVICE void restore_edits(const Logits& row, const SampleRequest& request) const {
    for_each_edit(request, [&](int32_t at) {
      const LogitEdit edit = edits[at];
      row.values[edit.token] = edit.penalty;
    });
  }
  template <class Visit>
  DEVICE static void for_each_edit(const SampleRequest& request, const Visit& visit) {
    for (auto i = static_cast<int32_t>(thread_index().x); i < request.edits;
         i += static_cast<int32_t>(sample_threads)) {
      visit(request.first_edit + i);
    }
    sync_threads();
  }

  // The sum of all weights; memory.block_sums gets those of blocks of sum_block. Half a warp sums a block: each lane
  // adds every 16th weight in fp32, then the lanes are added in fp64, as on the host.
  DEVICE double sum_weights(const Logits& row, const Softmax& softmax, const SampleMemory& memory) const {
    const uint32_t blocks = ceil_div(vocab, sum_block), lane = thread_index().x % sum_lanes;
    constexpr uint32_t at_once = sample_threads / sum_lanes;
    for (uint32_t first = 0; first < blocks; first += at_once) {
      const uint32_t block = first + thread_index().x / sum_lanes, begin = block * sum_block;
      const uint32_t count = block < blocks ? min(sum_block, vocab - begin) : 0;
      const uint32_t whole = count - count % sum_lanes;
      float own = 0;
      UNROLL for (uint32_t i = lane; i < whole; i += sum_lanes) {
        own = add_rounded(own, softmax.weight(row.of(begin + i)));
      }
      double sum = 0;
      for (int other = 0; other < static_cast<int>(sum_lanes); ++other) {
        sum += static_cast<double>(shuffle(own, other, sum_lanes));
      }
      for (uint32_t i = whole; i < count; ++i) sum += static_cast<double>(softmax.weight(row.of(begin + i)));
      if (lane == 0 && block < blocks) memory.block_sums[block] = sum;
    }
    sync_threads();
    double total = 0;
    if (thread_index().x == 0) {
      for (uint32_t block = 0; block < blocks; ++block) total += double(memory.block_sums[block]);
    }
    return from_first_thread(total, memory);
  }

  DEVICE static double from_first_thread(double value, const SampleMemory& memory) {
    if (thread_index().x == 0) memory.double_out[0] = value;
    sync_threads();
    const double told = memory.double_out[0];
    sync_threads();
    return told;
  }

  DEVICE int32_t find_alternatives(const Logits& row_logits, const Softmax& softmax, const SampleRequest& request,
                                   const SampleMemory& memory) const {
    const int32_t wanted = request.alternatives;
    if (wanted == 0) return 0;
    const Global<Alternative> to = alternatives + request.first_alternative;
    const CandidateFilter filter{softmax, 0, bar_of(row_logits, static_cast<uint32_t>(wanted), memory)};
    Candidates candidates(row_logits, filter, memory);
    int32_t found = 0;
    candidates.for_each([&](float, uint64_t key) {
      to[found] = Alternative{static_cast<int32_t>(RankKey::token(key)), RankKey::logit(key)};
      return ++found < wanted;
    });
    return found;
  }

  // A lower bound for the keys of the `count` highest candidates.
  DEVICE static uint64_t bar_of(const Logits& row, uint32_t count, const SampleMemory& memory) {
    return count <= sample_threads ? Candidates::bar(row, count, memory) : 0;
  }

  DEVICE uint32_t choose(const Logits& row, float highest, const SampleRequest& request,
                         const SampleMemory& memory) const {
    const Softmax softmax{highest, request.inverse_temperature};
    CandidateFilter filter{softmax, 0, 0};
    const auto top_k = static_cast<uint32_t>(request.top_k);
    double total = 0;
    if (top_k == 0) {
      total = sum_weights(row, softmax, memory);
      if (request.top_p >= 1 && request.min_p <= 0) return draw_from_all(row, softmax, request.random * total, memory);
      // Tokens below this weight are outside the nucleus, and weights of zero are never drawn.
      const auto negligible = static_cast<float>(request.negligible * total);
      filter.least = max(max(negligible, request.top_p >= 1 ? request.min_p : 0.0f), smallest_weight);
    } else {
      filter.bar = bar_of(row, top_k, memory);
    }
    Candidates candidates(row, filter, memory);
    const uint32_t most = top_k == 0 ? vocab : top_k;
    if (top_k != 0 && request.top_p < 1) {
      uint32_t seen = 0;
      candidates.for_each([&](float weight, uint64_t) {
        total += static_cast<double>(weight);
        return ++seen < most;
      });
    }
    // The nucleus, and its prefix that min-p keeps (weights only decrease).
    const double wanted = static_cast<double>(request.top_p) * total;
    double reached = 0, sum = 0;
    uint32_t seen = 0, kept = 0;
    candidates.for_each([&](float weight, uint64_t) {
      reached += static_cast<double>(weight);
      if (kept == seen && (seen == 0 || weight >= request.min_p)) {
        sum += static_cast<double>(weight);
        ++kept;
      }
      return ++seen < most && (request.top_p >= 1 || reached < wanted);
    });
    const double target = request.random * sum;
    uint32_t drawn = 0;
    double passed = 0;
    seen = 0;
    candidates.for_each([&](float weight, uint64_t key) {
      if (seen == 0 || weight > 0) drawn = RankKey::token(key);
      passed += static_cast<double>(weight);
      return ++seen < kept && !(weight > 0 && passed > target);
    });
    return drawn;  // valid on the first thread, like `kept` and `target`
  }

  DEVICE uint32_t draw_from_all(const Logits& row, const Softmax& softmax, double target,
                                const SampleMemory& memory) const {
    const uint32_t blocks = ceil_div(vocab, sum_block);
    if (thread_index().x == 0) {
      uint32_t block = 0;
      while (block + 1 < blocks && double(memory.block_sums[block]) <= target) {
        target -= double(memory.block_sums[block++]);
      }
      memory.word_out[0] = block;
    }
    sync_threads();
    const uint32_t begin = uint32_t{memory.word_out[0]} * sum_block, count = min(sum_block, vocab - begin);
    for (uint32_t i = thread_index().x; i < count; i += sample_threads) {
      memory.weights[i] = softmax.weight(row.of(begin + i));
    }
    sync_threads();
    if (thread_index().x != 0) return 0;
    // Rounding may put the target just past the last weight of an otherwise empty block: then go back to the last
    // weight.
    double reached = 0;
    uint32_t last = vocab;
    for (uint32_t i = 0; i < count && reached <= target; ++i) {
      const float weight = memory.weights[i];
      if (weight <= 0) continue;
      reached += static_cast<double>(weight);
      last = begin + i;
    }
    if (last == vocab) {
      last = begin;
      while (softmax.weight(row.of(--last)) <= 0) {
      }
    }
    return last;
  }

  // Weights above zero start here: smaller ones underflow.
  static constexpr float smallest_weight = 0x1p-149f;
};

}  // namespace

void sample_rows(Stream& stream, const SampleRows& rows) {
  const auto vocab = static_cast<uint32_t>(rows.logits.columns);
  const bool rows_are_aligned = reinterpret_cast<uintptr_t>(rows.logits.data) % 16 == 0 && rows.logits.stride % 4 == 0;
  const uint32_t in_fours = rows_are_aligned ? vocab / 4 * 4 : 0;
  const uint32_t blocks = (vocab + sum_block - 1) / sum_block;
  launch(stream,
         {.grid = {static_cast<uint32_t>(rows.logits.rows)},
          .block = {sample_threads},
          .shared_bytes = SampleMemory::fixed_bytes + blocks * 8,
          .programmatic = true},
         SampleRow{rows.logits.data, rows.logits.stride, vocab, in_fours, rows.requests, rows.edits, rows.answers,
                   rows.alternatives});
}

}  // namespace billfish::BILLFISH_TARGET
