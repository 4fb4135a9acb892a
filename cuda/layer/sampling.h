// From rows of logits to tokens on the device: the tokens are those that engine/sampling.h's sample() chooses on the
// same logits, because weights, their sums and the order of all additions are the same. A step then brings a few bytes
// a row to the host instead of the logits (600 KB for a vocabulary of 152 thousand).
//
// Exceptions to "the same": with top-k and top-p together the host adds the weights of the k candidates in no
// particular order, and with min-p it subtracts where this adds; a sum of doubles may differ in its last bit (1e-16),
// and with it a token whose bound is that close.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/sampling.h"
#include "layer/tensor.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class Sampler {
 public:
  // Changes of single logits (penalties, bias, bans) that one call may have, all its rows together; and alternatives
  // that a row may ask for.
  static constexpr int32_t most_edits = 1 << 16, most_alternatives = 64;

  // `memory`: device_bytes() bytes of the device, aligned to 256; the caller keeps it.
  Sampler(Device& device, void* memory, int32_t max_rows);
  ~Sampler();
  static size_t device_bytes(int32_t max_rows);

  // Whether the requests (one a row; null where no token is wanted) are within the numbers above. If not, take the
  // logits to the host and sample there. Throws INVALID_OPTION for what sample() refuses.
  bool accepts(const std::vector<const SamplingParameters*>& requests, int32_t vocab) const;

  // Queues the sampling of logits [requests.size()][vocab], which are as they were when it is done. The requests must
  // have been accepted, and live until results() has returned.
  void sample(Stream& stream, const Matrix<float>& logits, const std::vector<const SamplingParameters*>& requests);

  // Waits for what the last sample() queued. One entry for each request that is not null. Throws what sample() of
  // engine/sampling.h throws: INTERNAL for a logit that is NaN or +infinity, or when every token is banned.
  std::vector<Sampled> results(Stream& stream);

 private:
  struct Layout;
  std::unique_ptr<Layout> layout_;
  int32_t vocab_ = 0;
  std::vector<const SamplingParameters*> requests_;  // of the last sample(); they live until results()
  char* memory_;
  PinnedMemory image_, answers_;
  Event sent_;
};

}  // namespace billfish::BILLFISH_TARGET
