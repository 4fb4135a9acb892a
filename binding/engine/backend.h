// The interface between the engine and devices. binding/cpu and cuda implement it; nothing above knows which one runs.
//
// A Backend object serves one stage: it holds the stage's device, its scratch memory and the step in progress, and is
// called by one thread at a time (weights may be filled by several).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/batch.h"
#include "engine/benchmark_hooks.h"
#include "engine/canonical.h"
#include "engine/memory_count.h"
#include "engine/non_finite.h"
#include "engine/program.h"
#include "engine/sampling.h"
#include "engine/stage_limits.h"
#include "engine/stage_work.h"

namespace billfish {

class RankGroup;  // rank_group.h
class RankLink;   // rank_group.h

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const std::string& device() const = 0;
  virtual DType value_type(ValueClass kind) const = 0;
  virtual DType cache_type() const = 0;

  // Called first, if known: the total bytes of everything that will be allocated here. A backend may allocate them at
  // once, and is not asked for more then. Throws OUT_OF_MEMORY.
  virtual void reserve(uint64_t bytes) { (void)bytes; }

  // Called once, before anything is allocated: what will run here, on how many rows at most. A backend that must not
  // allocate while running makes its own buffers here; they count as MemoryUse::buffers.
  virtual void prepare(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits) {
    (void)program, (void)weights, (void)limits;
  }

  // --- Memory of the stage's device, counted; throws OUT_OF_MEMORY naming device, wanted and free bytes. Zeroed.
  virtual void* allocate(size_t bytes, MemoryUse use) = 0;
  virtual MemoryCount memory() const = 0;  // all allocations live as long as the backend
  // Host memory that the stage needs on any device: hidden states in transit. Zeroed. A backend whose device is the
  // host counts it among its buffers; here it is counted nowhere.
  virtual void* allocate_host(size_t bytes) {
    host_memory_.push_back(std::make_unique<double[]>(bytes / sizeof(double) + 1));
    return host_memory_.back().get();
  }

  // --- Weights. fill_* take rows of the layer in slabs; slabs start at a multiple of row_slab and may come from
  // several threads at once.
  static constexpr int64_t row_slab = 64;
  virtual std::unique_ptr<Weight> make_vector(const std::vector<float>& values) = 0;
  virtual std::unique_ptr<Weight> make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias) = 0;
  virtual void fill_matrix(Weight& weight, int64_t first, int64_t count, const void* rows) = 0;
  virtual std::unique_ptr<Weight> make_quantized(const CanonicalShape& shape) = 0;
  virtual void fill_quantized(Weight& weight, const CanonicalRows& rows) = 0;
  // Called once, after all weights are filled: waits for the uploads and throws what failed.
  virtual void finish_loading() {}
  // Whether first steps do one-time work, so that some should run before the model is used (warm_up.h).
  virtual bool wants_warm_up() const { return false; }

  // --- The step in progress: token ids, positions, block tables; rotary tables for `ropes`. Valid until the next
  // begin().
  virtual void begin(const Batch& batch, const std::vector<RopeSpec>& ropes) = 0;
  // begin() for steps in which every sequence has one token. Such steps repeat, so a backend may record one and replay
  // it. Returns the number of rows that the step's operators run on, at most `max_rows`; rows beyond the batch's belong
  // to no sequence. All ranks of a stage return the same.
  virtual int64_t begin_decode(const Batch& batch, const std::vector<RopeSpec>& ropes, int64_t max_rows) {
    (void)max_rows;
    begin(batch, ropes);
    return batch.rows();
  }
  // Then each part of the step, 0, 1, 2, ...: runs `operators` on the rows of begin_decode(). Collectives are between
  // parts.
  virtual void run_part(size_t part, const std::function<void()>& operators) {
    (void)part;
    operators();
  }
  // A notice for the user that steps do not run as requested, and why. Usually empty.
  virtual std::string take_notice() { return {}; }
  // Ends the step's work, except for passing on its results. Returns a handle where a device is still working after the
  // calls have returned.
  virtual std::unique_ptr<StageWork> end() { return nullptr; }
  // Waits for everything queued, failed or not: after a failed step, and before any stage is destroyed.
  virtual void drain() {}

  // --- Operators, as operators.h declares them: run(const Call<RmsNorm>&), ...
#define BILLFISH_RUN(Name) virtual void run(const Call<Name>& call) = 0;
  BILLFISH_BACKEND_OPERATORS(BILLFISH_RUN)
#undef BILLFISH_RUN

  // Samples a token for each row of logits that has a request (null: none), appends them to `samples` and leaves the
  // logits unchanged. On every device tokens and log-probabilities, and errors, are those of sample() in sampling.h.
  // Waits.
  using SamplingRequests = std::vector<const SamplingParameters*>;  // one per row
  virtual void sample(const Tensor& logits, const SamplingRequests& requests, std::vector<Sampled>& samples) = 0;

  // The first non-finite number of x. Waits, and is slow: for steps that search (non_finite.h).
  virtual std::optional<NonFinite> find_non_finite(const Tensor& x) = 0;

  // --- To and from the host, as fp32, rows packed without gaps. Both wait until the data is there.
  virtual void to_host(const Tensor& from, float* to) = 0;
  virtual void from_host(const float* from, const Tensor& to) = 0;

  // --- Hidden states between stages with peer access, bypassing host memory: one stage's backend sends, the next
  // stage's receives, each on its own stage's thread. Neither thread waits; the devices do. Whether this backend can
  // receive what `sender` sends.
  virtual bool can_receive_from(const Backend& sender) const {
    (void)sender;
    return false;
  }
  // False while earlier sends have not been received; then these states go through host memory.
  virtual bool send_to_peer(const Tensor& from) {
    (void)from;
    return false;
  }
  // Only after can_receive_from(sender), once for each of its send_to_peer(), in order.
  virtual void receive_from_peer(Backend& sender, const Tensor& to) { (void)sender, (void)to; }

  // --- Ranks of one stage. group.values() are what all of them published; values()[rank] is this one's. Called on the
  // first rank, before the first step, with the backends of all ranks in order: connects them. Returns the link for
  // their collectives, or null if they use each other's memory. Throws INVALID_OPTION, naming devices and reason, if
  // they cannot be ranks of one stage.
  virtual std::unique_ptr<RankLink> link(const std::vector<Backend*>& ranks);
  // What has been computed so far is about to be read by the other ranks.
  virtual void publish() {}
  // Every rank's out = the sum of all ranks' x, once all ranks' calls have returned; x is clobbered. The calls may
  // contain a barrier, on all ranks or none.
  virtual void all_reduce(RankGroup& group, int rank);
  // This rank's out, if it has one, = its pieces concatenated.
  virtual void all_gather(const RankGroup& group, int rank);
  // All ranks' calls have returned: published values may be overwritten once the devices have read them.
  virtual void release(const RankGroup& group) { (void)group; }

  // --- For benchmarks.
  virtual std::unique_ptr<BenchmarkHooks> benchmark_hooks() = 0;

 private:
  std::vector<std::unique_ptr<double[]>> host_memory_;
};

// Throws INVALID_OPTION: the two are of different kinds.
[[noreturn]] void refuse_ranks(const Backend& one, const Backend& other);

}  // namespace billfish
