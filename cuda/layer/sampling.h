// From rows of logits to tokens on the device: the tokens, log-probabilities and alternatives are those of
// engine/sampling.h's sample() on the same logits, bit by bit, because weights, their sums and the order of all
// additions are the same. A step then brings a few bytes a row to the host instead of the logits (600 KB for a
// vocabulary of 152 thousand).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/sampling.h"
#include "layer/sampling_rows.h"
#include "layer/tensor.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

struct SamplerLimits {
  int32_t vocabulary = 0;
  int32_t max_rows = 0;  // of a call
};

// One for a stream of calls: send(), run(), fetch(), results(), and so on. What they pass through lies at fixed places
// of the host's and the device's memory, and run() depends on nothing that a request says: it can be part of a recorded
// graph, with send() before the graph is launched and fetch() behind it.
class Sampler {
 public:
  using Requests = std::vector<const SamplingParameters*>;  // one a row; null where no token is wanted

  // `memory`: device_bytes() bytes of the device, aligned to 256, zeroed; the caller keeps it.
  Sampler(Device& device, void* memory, const SamplerLimits& limits);
  ~Sampler();
  static size_t device_bytes(const SamplerLimits& limits);

  // Queues the upload of requests[first] and those after it, as many as fit, and returns how many that are: all that a
  // call may have, unless their lists of tokens (penalties, bias, bans) or the alternatives they ask for have some
  // thousand entries a row; and one at least, whatever it asks for. The parameters live until results() has returned.
  // Throws INVALID_OPTION for what engine/sampling.h's sample() refuses.
  size_t send(Stream& stream, const Requests& requests, size_t first = 0);

  // Queues the sampling of logits [rows][vocabulary] by the requests that were sent last, one a row (rows behind them
  // have none). They are as they were when it is done.
  void run(Stream& stream, const Matrix<float>& logits) const;

  // Queues the way back, for the requests that were sent last.
  void fetch(Stream& stream) const;

  // Waits for what is queued, and appends what was sampled: one entry for each request that is not null. Throws what
  // sample() throws: INVALID_OPTION for a logit that penalties and biases made NaN or +infinity; INTERNAL when every
  // token is banned.
  void results(Stream& stream, std::vector<Sampled>& samples) const;

 private:
  struct Layout;
  SampleRequest make_request(const SamplingParameters& parameters, int32_t first_edit);

  SamplerLimits limits_;
  std::unique_ptr<Layout> layout_;
  char* memory_;
  PinnedMemory image_, answers_;
  Event sent_;                     // the image may be filled anew
  std::vector<int32_t> place_of_;  // [vocabulary] 1 + the edit of a token among those of the row; zero between rows
  Requests sent_requests_;         // that results() are for
  size_t sent_alternatives_ = 0;
};

}  // namespace billfish::BILLFISH_TARGET
