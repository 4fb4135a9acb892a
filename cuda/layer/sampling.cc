#include "layer/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>
#include <unordered_map>

#include "engine/philox.h"
#include "layer/sampling_rows.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// All edits of a call, phase by phase; those of a row are one after the other.
struct Edits {
  std::vector<LogitEdit> edits;
  std::vector<EditPhase> phases;

  // Adds a phase of all that was added since the last one.
  void end_phase() {
    const int32_t begin = phases.empty() ? 0 : phases.back().end, end = static_cast<int32_t>(edits.size());
    if (end > begin) phases.push_back({begin, end});
  }
  void add(int32_t token, LogitEdit::Kind kind, float value) { edits.push_back({token, kind, value, 0}); }
};

void add_penalties(const SamplingParameters& p, Edits& edits) {
  const bool repetition = p.repetition_penalty != 1;
  if (!repetition && p.frequency_penalty == 0 && p.presence_penalty == 0) return;
  std::unordered_map<int32_t, int32_t> counts;  // of the generated tokens; 0: of the prompt alone
  for (const int32_t token : p.generated) ++counts[token];
  if (repetition) {
    for (const int32_t token : p.prompt) counts.try_emplace(token, 0);
  }
  for (const auto& [token, count] : counts) {
    const float penalty = p.frequency_penalty * static_cast<float>(count) + p.presence_penalty;
    edits.add(token, LogitEdit::penalty, count > 0 ? penalty : 0);
  }
  edits.end_phase();
}

// Entries of one token act one after the other: the first of every token in one phase, the second in the next.
void add_bias(std::span<const TokenBias> bias, Edits& edits) {
  std::unordered_map<int32_t, size_t> seen;
  std::map<size_t, std::vector<TokenBias>> turns;
  for (const TokenBias& entry : bias) turns[seen[entry.token]++].push_back(entry);
  for (const auto& [turn, entries] : turns) {
    for (const TokenBias& entry : entries) edits.add(entry.token, LogitEdit::bias, entry.bias);
    edits.end_phase();
  }
}

void add_bans(std::span<const int32_t> banned, Edits& edits) {
  std::vector<int32_t> tokens(banned.begin(), banned.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const int32_t token : tokens) edits.add(token, LogitEdit::ban, 0);
  edits.end_phase();
}

// The most edits and phases that a request may need.
size_t edits_of(const SamplingParameters& p) {
  return p.prompt.size() + p.generated.size() + p.bias.size() + p.banned.size();
}
size_t phases_of(const SamplingParameters& p) { return p.bias.size() + 2; }

SampleRequest make_request(const SamplingParameters& p, int32_t vocab, Edits& edits) {
  SampleRequest request = {};
  request.active = 1;
  request.random = uniform_random(p.seed, p.step);
  request.negligible = 0.99 * (1.0 - p.top_p) / vocab;
  request.top_k = p.top_k < vocab ? p.top_k : 0;
  request.alternatives = std::min(p.logprobs, vocab);
  if (p.temperature > 0) {
    request.inverse_temperature = std::min(1.0f / p.temperature, std::numeric_limits<float>::max());
  }
  request.top_p = p.top_p;
  request.min_p = p.min_p;
  request.repetition = p.repetition_penalty;
  request.first_phase = static_cast<int32_t>(edits.phases.size());
  add_penalties(p, edits);
  add_bias(p.bias, edits);
  add_bans(p.banned, edits);
  request.phases = static_cast<int32_t>(edits.phases.size()) - request.first_phase;
  return request;
}

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

//   image: requests | phases | edits;   then answers | alternatives, which come back
struct Sampler::Layout {
  size_t phases, edits, image_bytes, answers, alternatives, bytes;

  explicit Layout(int32_t max_rows) {
    const auto rows = static_cast<size_t>(max_rows);
    phases = aligned(rows * sizeof(SampleRequest));
    edits = phases + aligned(static_cast<size_t>(most_edits) * sizeof(EditPhase));
    answers = edits + aligned(static_cast<size_t>(most_edits) * sizeof(LogitEdit));
    image_bytes = answers;
    alternatives = answers + aligned(rows * sizeof(SampleAnswer));
    bytes = alternatives + aligned(rows * static_cast<size_t>(most_alternatives) * sizeof(Alternative));
  }
};

Sampler::Sampler(Device& device, void* memory, int32_t max_rows)
    : layout_(std::make_unique<Layout>(max_rows)),
      memory_(static_cast<char*>(memory)),
      image_(layout_->image_bytes),
      answers_(layout_->bytes - layout_->answers),
      sent_(device) {}

Sampler::~Sampler() = default;

size_t Sampler::device_bytes(int32_t max_rows) { return Layout(max_rows).bytes; }

bool Sampler::accepts(const std::vector<const SamplingParameters*>& requests, int32_t vocab) const {
  size_t edits = 0, phases = 0;
  int32_t alternatives = 0;
  for (const SamplingParameters* request : requests) {
    if (request == nullptr) continue;
    check_sampling(*request, vocab);
    edits += edits_of(*request);
    phases += phases_of(*request);
    alternatives = std::max(alternatives, std::min(request->logprobs, vocab));
  }
  return std::max(edits, phases) <= static_cast<size_t>(most_edits) && alternatives <= most_alternatives;
}

void Sampler::sample(Stream& stream, const Matrix<float>& logits,
                     const std::vector<const SamplingParameters*>& requests) {
  vocab_ = static_cast<int32_t>(logits.columns);
  requests_ = requests;
  sent_.synchronize();
  Edits edits;
  auto* const rows = image_.as<SampleRequest>();
  for (size_t i = 0; i < requests.size(); ++i) {
    rows[i] = requests[i] != nullptr ? make_request(*requests[i], vocab_, edits) : SampleRequest{};
  }
  std::copy(edits.phases.begin(), edits.phases.end(), image_.as<EditPhase>(layout_->phases));
  std::copy(edits.edits.begin(), edits.edits.end(), image_.as<LogitEdit>(layout_->edits));
  const auto send = [&](size_t place, size_t bytes) {
    if (bytes > 0) stream.copy_to_device(memory_ + place, image_.as<char>(place), bytes);
  };
  send(0, requests.size() * sizeof(SampleRequest));
  send(layout_->phases, edits.phases.size() * sizeof(EditPhase));
  send(layout_->edits, edits.edits.size() * sizeof(LogitEdit));
  stream.record(sent_);
  sample_rows(stream, {.logits = logits,
                       .requests = reinterpret_cast<SampleRequest*>(memory_),
                       .edits = reinterpret_cast<LogitEdit*>(memory_ + layout_->edits),
                       .phases = reinterpret_cast<EditPhase*>(memory_ + layout_->phases),
                       .answers = reinterpret_cast<SampleAnswer*>(memory_ + layout_->answers),
                       .alternatives = reinterpret_cast<Alternative*>(memory_ + layout_->alternatives),
                       .most_alternatives = most_alternatives});
  stream.copy_to_host(answers_.data(), memory_ + layout_->answers, requests.size() * sizeof(SampleAnswer));
  const size_t alternatives_at = layout_->alternatives - layout_->answers;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i] == nullptr || requests[i]->logprobs <= 0) continue;
    const size_t row = alternatives_at + i * most_alternatives * sizeof(Alternative);
    stream.copy_to_host(answers_.as<char>(row), memory_ + layout_->answers + row,
                        static_cast<size_t>(std::min(requests[i]->logprobs, vocab_)) * sizeof(Alternative));
  }
}

std::vector<Sampled> Sampler::results(Stream& stream) {
  stream.synchronize();
  std::vector<Sampled> results;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == nullptr) continue;
    const SampleAnswer& answer = answers_.as<SampleAnswer>()[i];
    if (answer.status == SampleAnswer::invalid_logit) throw invalid_logit(answer.token, answer.logit, vocab_);
    if (answer.status == SampleAnswer::none_left) throw nothing_to_choose(vocab_, requests_[i]->banned.size());
    Sampled& sampled = results.emplace_back();
    sampled.token = answer.token;
    if (requests_[i]->logprobs < 0) continue;
    const double log_sum = answer.highest + std::log(answer.total);
    sampled.logprob = static_cast<float>(answer.logit - log_sum);
    const auto* alternatives =
        answers_.as<Alternative>(layout_->alternatives - layout_->answers) + i * most_alternatives;
    for (int32_t j = 0; j < answer.alternatives; ++j) {
      sampled.alternatives.push_back({alternatives[j].token, static_cast<float>(alternatives[j].logit - log_sum)});
    }
  }
  return results;
}

}  // namespace billfish::BILLFISH_TARGET
