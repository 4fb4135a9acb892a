#include "layer/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/philox.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {
namespace {

constexpr float infinity_of_float = std::numeric_limits<float>::infinity();

bool penalizes(const SamplingParameters& p) {
  return p.repetition_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0;
}

// Entries that the bits of the allowed tokens take.
size_t allowed_entries(const SamplingParameters& p) {
  return (p.allowed.size_bytes() + sizeof(LogitEdit) - 1) / sizeof(LogitEdit);
}

// Entries that a request may need: no more edits than tokens, and its allowed tokens.
size_t max_entries(const SamplingParameters& p, int32_t vocabulary) {
  size_t tokens = p.bias.size() + p.banned.size();
  if (penalizes(p)) tokens += p.generated.size();
  if (p.repetition_penalty != 1) tokens += p.prompt.size();
  return std::min(tokens, static_cast<size_t>(vocabulary)) + allowed_entries(p);
}
size_t alternatives_of(const SamplingParameters& p, int32_t vocabulary) {
  return static_cast<size_t>(std::clamp(p.logprobs, 0, vocabulary));
}

// The edits of one row, one per token.
class RowEdits {
 public:
  RowEdits(LogitEdit* edits, std::vector<int32_t>& tile_coord) : edits_(edits), place_of_(tile_coord) {}
  ~RowEdits() {
    for (int32_t i = 0; i < count_; ++i) place_of_[static_cast<size_t>(edits_[i].token)] = 0;
  }
  RowEdits(const RowEdits&) = delete;
  RowEdits& operator=(const RowEdits&) = delete;

  LogitEdit& of(int32_t token) {
    int32_t& place = place_of_[static_cast<size_t>(token)];
    if (place == 0) {
      edits_[count_] = {token, 1, 0, 0};
      place = ++count_;
    }
    return edits_[place - 1];
  }
  int32_t count() const { return count_; }

  void penalize(const SamplingParameters& p) {
    if (!penalizes(p)) return;
    for (const int32_t token : p.generated) {
      LogitEdit& edit = of(token);
      edit.repetition = p.repetition_penalty;
      edit.penalty += 1;  // the count, for now
    }
    for (int32_t i = 0; i < count_; ++i) {
      edits_[i].penalty = p.frequency_penalty * edits_[i].penalty + p.presence_penalty;
    }
    if (p.repetition_penalty == 1) return;
    for (const int32_t token : p.prompt) of(token).repetition = p.repetition_penalty;
  }

 private:
  LogitEdit* edits_;
  std::vector<int32_t>& place_of_;
  int32_t count_ = 0;
};

}  // namespace

Sampler::Sampler(Device& device, void* memory, const SamplerLimits& limits)
    : limits_(limits),
      layout_(limits),
      memory_(static_cast<char*>(memory)),
      image_(device, layout_.image_bytes),
      answers_(device, layout_.bytes - layout_.answers),
      sent_(device),
      place_of_(static_cast<size_t>(limits.vocabulary)) {}

size_t Sampler::send(Stream& stream, const Requests& requests, size_t first) {
  drain(sent_);  // if it failed, that step reports it
  sent_requests_.clear();
  sent_alternatives_ = 0;
  size_t edits = 0;
  auto* const rows = image_.as<SampleRequest>();
  std::fill(rows, rows + limits_.max_rows, SampleRequest{});
  const size_t end = std::min(requests.size(), first + static_cast<size_t>(limits_.max_rows));
  for (size_t i = first; i < end; ++i) {
    const SamplingParameters* const parameters = requests[i];
    if (parameters != nullptr) {
      check_sampling(*parameters, limits_.vocabulary);
      if (edits + max_entries(*parameters, limits_.vocabulary) > layout_.edits_at_most) break;
      const size_t alternatives = alternatives_of(*parameters, limits_.vocabulary);
      if (sent_alternatives_ + alternatives > layout_.alternatives_at_most) break;
      SampleRequest& request = rows[sent_requests_.size()];
      request = make_request(*parameters, static_cast<int32_t>(edits));
      request.first_alternative = static_cast<int32_t>(sent_alternatives_);
      edits += static_cast<size_t>(request.edits) + allowed_entries(*parameters);
      sent_alternatives_ += alternatives;
    }
    sent_requests_.push_back(parameters);
  }
  const size_t used = edits > 0 ? layout_.edits + edits * sizeof(LogitEdit) : layout_.edits;
  stream.copy_to_device(memory_, image_.data(), used);
  stream.record(sent_);
  return sent_requests_.size();
}

SampleRequest Sampler::make_request(const SamplingParameters& p, int32_t first_edit) {
  SampleRequest request = {};
  request.active = 1;
  request.random = uniform_random(p.seed, p.step);
  request.negligible = 0.99 * (1.0 - p.top_p) / limits_.vocabulary;
  request.top_k = p.top_k < limits_.vocabulary ? p.top_k : 0;
  request.alternatives = std::min(p.logprobs, limits_.vocabulary);
  if (p.temperature > 0) {
    request.inverse_temperature = std::min(1.0f / p.temperature, std::numeric_limits<float>::max());
  }
  request.top_p = p.top_p;
  request.min_p = p.min_p;
  RowEdits edits(image_.as<LogitEdit>(layout_.edits) + first_edit, place_of_);
  edits.penalize(p);
  for (const TokenBias& entry : p.bias) edits.of(entry.token).bias += entry.bias;
  for (const int32_t token : p.banned) edits.of(token) = {token, 1, 0, -infinity_of_float};
  request.first_edit = first_edit;
  request.edits = edits.count();
  request.allowed = -1;
  if (!p.allowed.empty()) {
    request.allowed = first_edit + request.edits;
    std::memcpy(image_.as<LogitEdit>(layout_.edits) + request.allowed, p.allowed.data(), p.allowed.size_bytes());
  }
  return request;
}

void Sampler::run(Stream& stream, const Matrix<float>& logits) const {
  sample_rows(stream, {.logits = logits,
                       .requests = reinterpret_cast<SampleRequest*>(memory_),
                       .edits = reinterpret_cast<LogitEdit*>(memory_ + layout_.edits),
                       .answers = reinterpret_cast<SampleAnswer*>(memory_ + layout_.answers),
                       .alternatives = reinterpret_cast<Alternative*>(memory_ + layout_.alternatives)});
}

void Sampler::fetch(Stream& stream) const {
  const size_t answers = sent_alternatives_ > 0
                             ? layout_.alternatives - layout_.answers + sent_alternatives_ * sizeof(Alternative)
                             : sent_requests_.size() * sizeof(SampleAnswer);
  stream.copy_to_host(answers_.data(), memory_ + layout_.answers, answers);
}

void Sampler::results(Stream& stream, std::vector<Sampled>& samples) const {
  stream.synchronize();
  const auto* alternatives = answers_.as<Alternative>(layout_.alternatives - layout_.answers);
  for (size_t i = 0; i < sent_requests_.size(); ++i) {
    const SamplingParameters* const parameters = sent_requests_[i];
    if (parameters == nullptr) continue;
    const SampleAnswer& answer = answers_.as<SampleAnswer>()[i];
    if (answer.status == SampleAnswer::invalid_logit) throw invalid_logit(answer.token, answer.logit);
    const bool none_left = answer.status == SampleAnswer::none_left;
    if (none_left && parameters->allowed.empty()) {
      throw nothing_to_choose(limits_.vocabulary, parameters->banned.size());
    }
    Sampled& sampled = samples.emplace_back();
    const bool is_finite = answer.status != SampleAnswer::non_finite;
    sampled.token = !is_finite ? Sampled::non_finite : none_left ? Sampled::none_allowed : answer.token;
    if (parameters->logprobs < 0) continue;
    const Alternative* const own = alternatives;
    alternatives += alternatives_of(*parameters, limits_.vocabulary);
    if (!is_finite) continue;
    const double log_sum = answer.highest + std::log(answer.total);
    if (!none_left) sampled.logprob = static_cast<float>(answer.logit - log_sum);
    for (int32_t j = 0; j < answer.alternatives; ++j) {
      sampled.alternatives.push_back({own[j].token, static_cast<float>(own[j].logit - log_sum)});
    }
  }
}

}  // namespace billfish::BILLFISH_TARGET
