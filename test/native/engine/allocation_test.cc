// A stage allocates all that it needs before its first step: from the second one on a step allocates nothing, whatever
// its size.
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "backends.h"
#include "engine/stage.h"
#include "support/check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BILLFISH_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BILLFISH_SANITIZED
#endif

// This program's operator new counts, except under the sanitizers, which bring one of their own.
static thread_local int allocations = 0;

#ifdef BILLFISH_SANITIZED
static const bool allocations_are_counted = false;
#else
static const bool allocations_are_counted = true;

static void* counted(void* memory) {
  ++allocations;
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// The other forms of new and delete call these. Not inlined, or g++ takes malloc() and free() for a mismatched pair.
#define NOT_INLINED __attribute__((noinline))
NOT_INLINED void* operator new(size_t bytes) { return counted(std::malloc(bytes == 0 ? 1 : bytes)); }
NOT_INLINED void* operator new(size_t bytes, std::align_val_t alignment) {
  const size_t unit = static_cast<size_t>(alignment);
  return counted(std::aligned_alloc(unit, (bytes / unit + 1) * unit));
}
NOT_INLINED void operator delete(void* memory) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, size_t) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
#endif

using namespace billfish;

namespace {

constexpr int32_t hidden = 64, intermediate = 96, heads = 4, kv_heads = 2, head_dim = 16, vocabulary = 300;
constexpr StageLimits limits = {32, 24, 100, 2};

// A whole model of one layer, with every operator that a Qwen2 or Llama has; the first linear with act-order.
class OneLayerStage {
 public:
  OneLayerStage() {
    Program program;
    const auto value = [&](int64_t width, RowKind rows = RowKind::tokens) {
      program.values.push_back({width, rows, ValueClass::activation, no_value, 0});
      return static_cast<ValueId>(program.values.size() - 1);
    };
    const ValueId x = value(hidden), normed = value(hidden), q = value(heads * head_dim),
                  k = value(kv_heads * head_dim), v = value(kv_heads * head_dim), mixed = value(heads * head_dim),
                  y = value(hidden), normed_y = value(hidden), gate = value(intermediate), up = value(intermediate),
                  z = value(hidden), last = value(hidden, RowKind::logits),
                  normed_last = value(hidden, RowKind::logits), logits = value(vocabulary, RowKind::logits);
    const WeightId embedding = matrix("embedding", vocabulary, hidden), norm = vector("norm", hidden),
                   q_weight = quantized("q", heads * head_dim, hidden),
                   k_weight = quantized("k", kv_heads * head_dim, hidden),
                   v_weight = quantized("v", kv_heads * head_dim, hidden), o = quantized("o", hidden, heads * head_dim),
                   gate_weight = quantized("gate", intermediate, hidden),
                   up_weight = quantized("up", intermediate, hidden), down = quantized("down", hidden, intermediate);
    program.ropes = {{std::vector<float>(head_dim / 2, 0.1f), 1}};
    program.cache_layers = {{kv_heads, head_dim}};
    program.operators = {Embedding{embedding, x},
                         RmsNorm{x, norm, hidden, 1e-6f, normed},
                         Linear{normed, {{q_weight, q}, {k_weight, k}, {v_weight, v}}},
                         Rope{q, heads, head_dim, 0},
                         Rope{k, kv_heads, head_dim, 0},
                         LogNScale{q, 100},
                         Attention{q, k, v, mixed, 0, heads, 0.25f, 0},
                         Linear{mixed, {{o, y}}},
                         AddRmsNorm{x, y, norm, 1e-6f, normed_y},
                         Linear{normed_y, {{gate_weight, gate}, {up_weight, up}}},
                         SiluMul{gate, up},
                         Linear{gate, {{down, z}}},
                         Add{x, z},
                         Gather{x, last},
                         RmsNorm{last, norm, hidden, 1e-6f, normed_last},
                         Linear{normed_last, {{embedding, logits}}}};
    program.output = logits;
    stage = std::make_unique<Stage>(make_backend("cpu", {}), program, shapes_, limits);
    for (size_t i = 0; i < shapes_.size(); ++i) stage->set_weight(i, weight(shapes_[i]));
  }

  std::unique_ptr<Stage> stage;

 private:
  WeightId add(const char* name, WeightKind kind, int64_t out, int64_t in, int64_t group_size) {
    shapes_.push_back({name, kind, out, in, group_size});
    return static_cast<WeightId>(shapes_.size() - 1);
  }
  WeightId matrix(const char* name, int64_t out, int64_t in) { return add(name, WeightKind::matrix, out, in, 0); }
  WeightId vector(const char* name, int64_t length) { return add(name, WeightKind::vector, length, 1, 0); }
  WeightId quantized(const char* name, int64_t out, int64_t in) {
    return add(name, WeightKind::quantized, out, in, 32);
  }

  // Weights stay as they are allocated, all zero.
  std::unique_ptr<Weight> weight(const WeightShape& shape) {
    Backend& backend = stage->backend();
    if (shape.kind == WeightKind::vector) return backend.make_vector(std::vector<float>(shape.out, 1));
    if (shape.kind == WeightKind::matrix) return backend.make_matrix(shape.out, shape.in, DType::f16, {});
    CanonicalShape canonical;
    canonical.name = shape.name;
    canonical.out = shape.out;
    canonical.in = shape.in;
    canonical.group_size = shape.group_size;
    if (shape.name == "q") {
      canonical.has_group_index = true;
      for (int32_t i = 0; i < shape.in; ++i) canonical.order.push_back(static_cast<int32_t>(shape.in) - 1 - i);
    }
    return backend.make_quantized(canonical);
  }

  std::vector<WeightShape> shapes_;
};

// A step of sequences (rows, past), each with the same blocks; the last row of each is sampled.
struct Request {
  explicit Request(const std::vector<std::pair<int32_t, int32_t>>& parts) {
    Batch& batch = step.batch;
    for (int32_t i = 0; i < limits.block_count; ++i) batch.block_tables.push_back(i);
    for (const auto& [rows, past] : parts) {
      SequenceSpan span;
      span.first_row = batch.rows();
      span.rows = rows;
      span.past = past;
      span.blocks = batch.block_tables.data();
      span.block_count = limits.block_count;
      span.rope_base = past > 100 ? 20000 : 0;
      batch.sequences.push_back(span);
      for (int32_t i = 0; i < rows; ++i) {
        batch.tokens.push_back(i % vocabulary);
        batch.positions.push_back(past + i);
      }
      batch.logit_rows.push_back(batch.rows() - 1);
      SamplingRequest request;
      request.generated = {1, 2, 3};
      request.parameters.generated = request.generated;
      request.parameters.temperature = 1;
      request.parameters.top_p = 0.9f;
      request.parameters.frequency_penalty = 0.5f;
      step.sampling.emplace_back(std::move(request));
      step.sampling.back()->parameters.generated = step.sampling.back()->generated;
    }
    step.result.samples.reserve(parts.size());
  }
  Step step;
};

}  // namespace

TEST(a_step_allocates_nothing_after_the_first) {
  const OneLayerStage model;
  Stage& stage = *model.stage;
  Request first({{1, 0}});
  const int before_first = allocations;
  stage.run(first.step);
  // It does count: the list of calls, for one.
  if (allocations_are_counted) CHECK(allocations > before_first);
  const MemoryCount counted = stage.backend().memory();
  // Whole batches, decoding, few and many keys (which are split), and more sampled rows than the head takes at a time.
  for (const auto& parts :
       std::vector<std::vector<std::pair<int32_t, int32_t>>>{{{1, 1}},
                                                             {{100, 0}},
                                                             {{100, 600}},
                                                             {{1, 700}},
                                                             {{1, 700}, {1, 750}, {1, 3}, {97, 600}},
                                                             {{50, 0}, {50, 0}}}) {
    Request request(parts);
    const int before = allocations;
    stage.run(request.step);
    const int made = allocations - before;
    CHECK_MESSAGE(made == 0, made << " allocations");
    CHECK(request.step.result.samples.size() == parts.size());
  }
  CHECK(stage.backend().memory().total() == counted.total());
}
