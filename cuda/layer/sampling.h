// Sampling on the device. Tokens, log-probabilities and alternatives match engine/sampling.h's sample() on the same
// logits bit for bit, because weights, sums and the order of all additions are the same. A step then brings a few bytes
// per row to the host instead of the logits (600 KB for a vocabulary of 152 thousand).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/memory/sampler_layout.h"
#include "engine/sampling.h"
#include "layer/tensor.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

using gpu::Alternative, gpu::LogitEdit, gpu::SampleAnswer, gpu::SampleRequest;
using gpu::SamplerLimits;
static_assert(sizeof(SampleRequest) == 64 && sizeof(SampleAnswer) == 32);  // read 16 bytes at a time

// Called as send(), run(), fetch(), results(), again and again. Data passes through fixed addresses in host and device
// memory, and run() does not depend on the requests, so it can be captured into a graph, with send() before the graph's
// launch and fetch() after it.
class Sampler {
 public:
  using Requests = std::vector<const SamplingParameters*>;  // one per row; null: no token wanted

  // `memory`: SamplerLayout::bytes of the device, aligned to 256, zeroed; the caller keeps it.
  Sampler(Device& device, void* memory, const SamplerLimits& limits);

  // Queues the upload of requests[first] and the following ones, as many as fit, and returns their number: max_rows,
  // unless their token lists (penalties, bias, bans, allowed tokens) or alternatives have thousands of entries per row;
  // always at least one. The parameters must live until results() has returned. Throws INVALID_OPTION for what
  // engine/sampling.h's sample() refuses.
  size_t send(Stream& stream, const Requests& requests, size_t first = 0);

  // Queues sampling of logits [rows][vocabulary] with the requests sent last, one per row (later rows have none).
  // Leaves the logits unchanged.
  void run(Stream& stream, const Matrix<float>& logits) const;

  // Queues the download of the results.
  void fetch(Stream& stream) const;

  // Waits, and appends one sample for each request that is not null. Throws what sample() throws: INVALID_OPTION for a
  // logit that penalties and biases made NaN or +infinity; INTERNAL when every token is banned.
  void results(Stream& stream, std::vector<Sampled>& samples) const;

 private:
  SampleRequest make_request(const SamplingParameters& parameters, int32_t first_edit);

  SamplerLimits limits_;
  gpu::SamplerLayout layout_;
  char* memory_;
  PinnedMemory image_, answers_;
  Event sent_;                     // the image may be overwritten
  std::vector<int32_t> place_of_;  // [vocabulary] 1 + the edit of a token among those of the row; zero between rows
  Requests sent_requests_;         // the requests of results()
  size_t sent_alternatives_ = 0;
};

// The kernel: run() on requests that are in device memory.
struct SampleRows {
  Matrix<float> logits;  // edited and restored by the kernel
  const SampleRequest* requests;
  LogitEdit* edits;
  SampleAnswer* answers;
  Alternative* alternatives;
};
void sample_rows(Stream& stream, const SampleRows& rows);

}  // namespace billfish::BILLFISH_TARGET
