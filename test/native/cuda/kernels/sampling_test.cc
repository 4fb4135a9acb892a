// Sampling on the device: exactly what the host samples, on the same logits.
#include "layer/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "engine/error.h"
#include "engine/sampling.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;

namespace {

constexpr float infinity_of_float = std::numeric_limits<float>::infinity();

// A request that owns its lists.
struct Request {
  SamplingParameters parameters;
  std::vector<int32_t> prompt = {}, generated = {}, banned = {};
  std::vector<TokenBias> bias = {};
  std::vector<uint32_t> allowed = {};
};

const SamplingParameters* point(Request& request) {
  request.parameters.prompt = request.prompt;
  request.parameters.generated = request.generated;
  request.parameters.banned = request.banned;
  request.parameters.bias = request.bias;
  request.parameters.allowed = request.allowed;
  return &request.parameters;
}

DeviceMemory sampler_memory(Stream& stream, const SamplerLimits& limits) {
  DeviceMemory memory(stream.device(), gpu::SamplerLayout(limits).bytes);
  stream.fill(memory.data(), 0, memory.bytes());
  return memory;
}

// Samples a row for every request on the device and on the host, and compares tokens and log-probabilities.
void check_rows(const std::vector<float>& logits, int32_t vocab, std::vector<Request>& requests) {
  Stream stream(Device::at(0));
  const auto rows = static_cast<int32_t>(requests.size());
  const SamplerLimits limits{vocab, rows};
  const DeviceMemory memory = sampler_memory(stream, limits);
  Sampler sampler(stream.device(), memory.data(), limits);
  std::vector<const SamplingParameters*> pointers;
  for (Request& request : requests) pointers.push_back(point(request));
  const int64_t stride = (vocab + 15) / 16 * 16;
  std::vector<float> rows_of_logits(static_cast<size_t>(rows * stride), NAN);
  for (size_t r = 0; r < requests.size(); ++r) {
    std::copy(logits.begin(), logits.end(), rows_of_logits.begin() + static_cast<int64_t>(r) * stride);
  }
  const DeviceMemory on_device = upload(stream, rows_of_logits);
  CHECK(sampler.send(stream, pointers) == requests.size());
  sampler.run(stream, {on_device.as<float>(), rows, vocab, stride});
  sampler.fetch(stream);
  std::vector<Sampled> got;
  sampler.results(stream, got);
  CHECK(got.size() == requests.size());
  const std::vector<float> after = download<float>(stream, on_device);
  CHECK(std::equal(after.begin(), after.end(), rows_of_logits.begin(),
                   [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }));

  std::vector<double> scratch_memory(SamplingScratch::bytes(vocab) / sizeof(double));
  SamplingScratch scratch(scratch_memory.data(), vocab);
  for (size_t r = 0; r < requests.size(); ++r) {
    std::vector<float> row = logits;
    const SamplingParameters& p = requests[r].parameters;
    const Sampled wanted = sample(row.data(), vocab, p, scratch);
    CHECK_MESSAGE(got[r].token == wanted.token, "token " << got[r].token << ", not " << wanted.token << ", of " << vocab
                                                         << " at temperature " << p.temperature << ", top-k " << p.top_k
                                                         << ", top-p " << p.top_p << ", min-p " << p.min_p);
    CHECK(std::isnan(got[r].logprob) == std::isnan(wanted.logprob));
    if (!std::isnan(wanted.logprob)) CHECK(got[r].logprob == wanted.logprob);
    CHECK(got[r].alternatives.size() == wanted.alternatives.size());
    for (size_t i = 0; i < std::min(got[r].alternatives.size(), wanted.alternatives.size()); ++i) {
      CHECK(got[r].alternatives[i].token == wanted.alternatives[i].token);
      CHECK(got[r].alternatives[i].logprob == wanted.alternatives[i].logprob);
    }
  }
}

// Logits with ties, zeros of both signs and some far below all others.
std::vector<float> awkward_logits(int32_t vocab, unsigned seed, float spread) {
  std::vector<float> logits = random_floats(vocab, seed, spread);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i % 3 == 0) logits[i] = std::round(logits[i] * 4) / 4;
    if (i % 11 == 5) logits[i] = -3e38f;
    if (i % 17 == 4) logits[i] = i % 2 == 0 ? 0.0f : -0.0f;
  }
  return logits;
}

// Requests that differ in what they ask for, and in their random numbers.
std::vector<Request> assorted_requests(int32_t vocab) {
  std::vector<Request> requests;
  uint64_t step = 0;
  const auto add = [&](float temperature, int32_t top_k, float top_p, float min_p) -> Request& {
    Request& request = requests.emplace_back();
    request.parameters.temperature = temperature;
    request.parameters.top_k = top_k;
    request.parameters.top_p = top_p;
    request.parameters.min_p = min_p;
    request.parameters.seed = 99;
    request.parameters.step = step++;
    return request;
  };
  add(0, 0, 1, 0);
  for (const float temperature : {0.3f, 1.0f, 5.0f}) {
    for (int i = 0; i < 3; ++i) add(temperature, 0, 1, 0);
    add(temperature, 5, 1, 0);
    add(temperature, 40, 0.8f, 0);
    add(temperature, 0, 0.9f, 0);
    add(temperature, 0, 0.999f, 0.01f);
    add(temperature, 0, 1, 0.05f);
    add(temperature, 700, 0.95f, 0.001f);
    add(temperature, vocab + 5, 0.5f, 0);
  }
  add(1, 1, 1, 0);
  add(1, 0, 1e-6f, 0);
  add(1, 0, 1, 1);
  add(0, 0, 1, 0).parameters.logprobs = 0;
  add(1, 0, 0.9f, 0).parameters.logprobs = std::min(vocab, 20);
  // Allowed tokens: every third, one, and none.
  for (const float temperature : {0.0f, 0.8f}) {
    for (const int32_t every : {3, vocab, 0}) {
      Request& request = add(temperature, 0, temperature > 0 ? 0.95f : 1, 0);
      request.allowed.resize(allowed_words(vocab));
      for (int32_t token = 0; token < vocab && every != 0; ++token) {
        if (token % every == 1) request.allowed[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
      }
      request.parameters.logprobs = std::min(vocab, 2);
      if (every == 3) request.bias = {{0, 50.0f}, {vocab / 2, -1.0f}};
      if (every == 3) request.parameters.top_k = 5;
    }
  }
  // Penalties, biases that add up, bans.
  for (const float temperature : {0.0f, 0.8f}) {
    Request& request = add(temperature, 0, 0.95f, 0);
    for (int32_t i = 0; i < 40; ++i) {
      request.prompt.push_back(i * 7 % vocab);
      request.generated.push_back(i * i % vocab);
    }
    request.parameters.repetition_penalty = 1.3f;
    request.parameters.presence_penalty = 0.25f;
    request.parameters.frequency_penalty = 0.125f;
    request.parameters.logprobs = std::min(vocab, 3);
    request.bias = {{vocab / 2, 3.3f}, {vocab / 3, -1.1f}, {vocab / 2, 0.7f}, {vocab - 1, 2.0f}, {vocab / 2, 0.1f}};
    request.banned = {0, vocab - 1, 0};
  }
  add(0, 0, 1, 0).generated = {1, 1, 0};
  requests.back().parameters.frequency_penalty = -2;
  return requests;
}

}  // namespace

TEST(cuda_sampling_chooses_what_the_host_chooses) {
  unsigned seed = 0;
  for (const int32_t vocab : {1, 5, 17, 512, 1023, 5000}) {
    for (const float spread : {0.01f, 3.0f}) {
      const std::vector<float> logits =
          vocab > 5 ? awkward_logits(vocab, ++seed, spread) : random_floats(vocab, ++seed, spread);
      std::vector<Request> requests = assorted_requests(vocab);
      if (vocab == 1) {
        for (Request& request : requests) request.banned.clear(), request.generated.clear();
      }
      check_rows(logits, vocab, requests);
    }
  }
}

TEST(cuda_sampling_is_right_in_every_schedule) {
  const std::vector<float> logits = awkward_logits(2100, 50, 2);
  in_every_schedule([&] {
    std::vector<Request> requests = assorted_requests(2100);
    requests.erase(requests.begin(), requests.begin() + 10);
    check_rows(logits, 2100, requests);
  });
}

// Thousands of equal logits: the chunks of candidates are cut by token.
TEST(cuda_sampling_chooses_among_thousands_of_equal_logits) {
  std::vector<float> logits(4000, 1.0f);
  for (size_t i = 0; i < logits.size(); i += 5) logits[i] = 2.0f;
  std::vector<Request> requests = assorted_requests(4000);
  check_rows(logits, 4000, requests);
}

TEST(cuda_sampling_refuses_what_the_host_refuses) {
  Stream stream(Device::at(0));
  const auto sample_of = [&](const std::vector<float>& logits, const std::vector<Request>& all) {
    std::vector<Request> requests = all;
    const DeviceMemory on_device = upload(stream, logits);
    Sampler::Requests pointers;
    for (Request& request : requests) pointers.push_back(point(request));
    const auto rows = static_cast<int32_t>(requests.size()), vocab = static_cast<int32_t>(logits.size()) / rows;
    const DeviceMemory memory = sampler_memory(stream, {vocab, rows});
    Sampler sampler(stream.device(), memory.data(), {vocab, rows});
    sampler.send(stream, pointers);
    sampler.run(stream, {on_device.as<float>(), rows, vocab, vocab});
    sampler.fetch(stream);
    std::vector<Sampled> samples;
    sampler.results(stream, samples);
    return samples;
  };
  for (const float wrong : {NAN, infinity_of_float, -infinity_of_float}) {
    Request with_logprobs;
    with_logprobs.parameters.logprobs = 2;
    const auto samples = sample_of({1, wrong, 2, 0, 5, 7}, {with_logprobs, with_logprobs});
    CHECK(samples[0].token == Sampled::non_finite);
    CHECK(samples[0].alternatives.empty());
    CHECK(samples[1].token == 2);
    REQUIRE(samples[1].alternatives.size() == 2);
    CHECK(samples[1].alternatives[1].token == 1);
  }
  Request boosted;
  boosted.parameters.repetition_penalty = 0.5f;
  boosted.generated = {3};
  CHECK(complaint([&] { sample_of({1, 0, 2, 3e38f}, {boosted}); }).find("token 3 infinite") != std::string::npos);
  Request banned;
  banned.banned = {0, 1};
  CHECK(complaint([&] {
          sample_of({1, 2, 3, 4}, {Request{}, banned});
        }).find("None of the 2 tokens") != std::string::npos);
  CHECK(sample_of({1, 2, 4, 3}, {Request{}, Request{}})[1].token == 0);
  Request invalid;
  invalid.parameters.top_p = 0;
  CHECK_THROWS(sample_of({1, 2}, {invalid}), "INVALID_OPTION");
}

// One sampler, call after call: rows without a request, an error in between, and requests that need several turns.
TEST(cuda_sampling_takes_many_requests_in_several_turns) {
  constexpr int32_t vocab = 5000, rows = 3;
  Stream stream(Device::at(0));
  const DeviceMemory memory = sampler_memory(stream, {vocab, rows});
  Sampler sampler(stream.device(), memory.data(), {vocab, rows});
  const std::vector<float> logits = random_floats(vocab * rows, 3, 2);
  const DeviceMemory on_device = upload(stream, logits);
  std::vector<double> scratch_memory(SamplingScratch::bytes(vocab) / sizeof(double));
  SamplingScratch scratch(scratch_memory.data(), vocab);
  std::vector<int> turns;
  const auto sample_all = [&](std::vector<Request> requests, const std::vector<bool>& wanted) {
    Sampler::Requests pointers;
    for (size_t r = 0; r < rows; ++r) pointers.push_back(wanted[r] ? point(requests[r]) : nullptr);
    std::vector<Sampled> got;
    turns.clear();
    for (size_t first = 0; first < pointers.size(); first += static_cast<size_t>(turns.back())) {
      turns.push_back(static_cast<int>(sampler.send(stream, pointers, first)));
      sampler.run(stream, {on_device.as<float>() + first * vocab, turns.back(), vocab, vocab});
      sampler.fetch(stream);
      sampler.results(stream, got);
    }
    size_t at = 0;
    for (size_t r = 0; r < rows; ++r) {
      if (pointers[r] == nullptr) continue;
      std::vector<float> row(logits.begin() + static_cast<int64_t>(r) * vocab,
                             logits.begin() + static_cast<int64_t>(r + 1) * vocab);
      const Sampled expected = sample(row.data(), vocab, *pointers[r], scratch);
      CHECK(at < got.size());
      if (at == got.size()) return;
      const Sampled& found = got[at++];
      CHECK(found.token == expected.token);
      CHECK(found.alternatives.size() == expected.alternatives.size());
      for (size_t i = 0; i < std::min(found.alternatives.size(), expected.alternatives.size()); ++i) {
        CHECK(found.alternatives[i].token == expected.alternatives[i].token);
        CHECK(found.alternatives[i].logprob == expected.alternatives[i].logprob);
      }
    }
    CHECK(at == got.size());
  };
  Request plain;
  plain.parameters.temperature = 1;
  plain.parameters.logprobs = 2;
  sample_all({plain, plain, plain}, {false, true, false});
  CHECK(turns == std::vector<int>{3});
  Request invalid = plain;
  invalid.bias = {{vocab, 1}};
  CHECK_THROWS(sample_all({plain, invalid, plain}, {true, true, true}), "INVALID_OPTION");
  Request penalized = plain;  // of all tokens but the last
  penalized.parameters.repetition_penalty = 1.5f;
  penalized.parameters.presence_penalty = 0.5f;
  for (int32_t token = 0; token < vocab - 1; ++token) penalized.prompt.push_back(token);
  penalized.generated = {7, 7, 9, vocab - 1};
  sample_all({penalized, plain, penalized}, {true, true, true});
  CHECK(turns == (std::vector<int>{2, 1}));
  Request talkative = plain;
  talkative.parameters.logprobs = 3000;  // more than the block has threads, and than half of what a call may have
  sample_all({talkative, plain, talkative}, {true, false, true});
  CHECK(turns == (std::vector<int>{2, 1}));
  sample_all({plain, penalized, plain}, {true, true, true});
  CHECK(turns == std::vector<int>{3});
}
