#include "cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/host_memory.h"
#include "cpu/offload_file.h"
#include "cpu/operators.h"
#include "cpu/stage_memory.h"
#include "engine/error.h"
#include "engine/rank_group.h"

namespace billfish::cpu {
namespace {

float* data_of(const Tensor& t) { return static_cast<float*>(t.data); }

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : options_(options), context_{ThreadPool::shared(), options.precision, options.cache_type} {
    if (!options.weights_directory.empty()) offload_.emplace(options.weights_directory, options.device);
  }

  const std::string& device() const override { return options_.device; }
  DType value_type(ValueClass) const override { return DType::f32; }
  DType cache_type() const override { return options_.cache_type; }

  void* allocate(size_t bytes, MemoryUse use) override {
    void* data;
    if (use == MemoryUse::weights && offload_) {
      data = offload_->allocate(bytes);
    } else {
      data = memory_.emplace_back(HostMemory::allocate(bytes, options_.device)).data();
    }
    count_.add(HostMemory::counted(bytes), use);
    return data;
  }
  void* allocate_host(size_t bytes) override { return allocate(bytes, MemoryUse::buffers); }
  MemoryCount memory() const override { return count_; }

  void prepare(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits) override {
    const StageBuffers needs = stage_buffers({program, weights, limits}, options_.precision);
    const auto buffer = [&](uint64_t bytes) { return bytes > 0 ? allocate(bytes, MemoryUse::buffers) : nullptr; };
    for (size_t i = 0; i < program.ropes.size(); ++i) {
      const auto half = static_cast<int64_t>(program.ropes[i].inverse_frequency.size());
      context_.rope_tables.push_back({static_cast<float*>(buffer(needs.rope_tables[i])), half});
    }
    context_.scratch = {buffer(needs.scratch), needs.scratch};
    if (needs.sampling > 0) {
      const auto vocabulary = static_cast<int32_t>(program.values[program.output].width);
      sampling_scratch_.emplace(buffer(needs.sampling), vocabulary);
    }
  }

  std::unique_ptr<Weight> make_vector(const std::vector<float>& values) override {
    auto weight = std::make_unique<VectorWeight>();
    weight->values = copy_vector(values);
    return weight;
  }

  std::unique_ptr<Weight> make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias) override {
    auto weight = std::make_unique<MatrixWeight>();
    const float* bias_copy = bias.empty() ? nullptr : copy_vector(bias);
    void* data = allocate(matrix_bytes(out, in, type), MemoryUse::weights);
    weight->matrix = {type, out, in, data, bias_copy};
    return weight;
  }

  void fill_matrix(Weight& weight, int64_t first, int64_t count, const void* rows) override {
    const Matrix& matrix = static_cast<MatrixWeight&>(weight).matrix;
    const size_t row_bytes = static_cast<size_t>(matrix.in) * byte_size(matrix.type);
    std::memcpy(static_cast<uint8_t*>(const_cast<void*>(matrix.data)) + first * row_bytes, rows, count * row_bytes);
  }

  std::unique_ptr<Weight> make_quantized(const CanonicalShape& shape) override {
    auto weight = std::make_unique<QuantizedWeight>();
    weight->linear = make_quantized_linear(shape, allocate(packed_bytes(shape), MemoryUse::weights));
    return weight;
  }

  void fill_quantized(Weight& weight, const CanonicalRows& rows) override {
    pack_rows(static_cast<QuantizedWeight&>(weight).linear, rows);
  }

  void finish_loading() override {
    if (offload_) offload_->flush();
  }

  void begin(const Batch& batch, const std::vector<RopeSpec>& ropes) override {
    context_.batch = &batch;
    for (size_t i = 0; i < ropes.size(); ++i) {
      const RopeTable& table = context_.rope_tables[i];
      rope_table(batch, ropes[i].inverse_frequency.data(), table.half, ropes[i].scale, table.data,
                 static_cast<float*>(context_.scratch.data), context_.pool);
    }
  }

#define BILLFISH_RUN(Name) \
  void run(const Call<billfish::Name>& call) override { cpu::run(context_, call); }
  BILLFISH_BACKEND_OPERATORS(BILLFISH_RUN)
#undef BILLFISH_RUN

  void sample(const Tensor& logits, const SamplingRequests& requests, std::vector<Sampled>& samples) override {
    for (size_t r = 0; r < requests.size(); ++r) {
      if (requests[r] == nullptr) continue;
      float* const row = data_of(logits) + static_cast<int64_t>(r) * logits.stride;
      samples.push_back(billfish::sample(row, static_cast<int32_t>(logits.columns), *requests[r], *sampling_scratch_));
    }
  }

  std::unique_ptr<RankLink> link(const std::vector<Backend*>& ranks) override {
    const auto other = std::find_if(ranks.begin(), ranks.end(), [](const Backend* rank) {
      return dynamic_cast<const CpuBackend*>(rank) == nullptr;
    });
    if (other != ranks.end()) refuse_ranks(*this, **other);
    return nullptr;
  }

  void all_reduce(RankGroup& group, int rank) override { cpu::all_reduce(group.values(), rank, context_.pool); }

  void all_gather(const RankGroup& group, int rank) override { cpu::all_gather(group.values(), rank); }

  std::optional<NonFinite> find_non_finite(const Tensor& x) override {
    return billfish::find_non_finite(x.data, x.type, x.rows, x.columns, x.stride);
  }

  void to_host(const Tensor& from, float* to) override {
    for (int64_t r = 0; r < from.rows; ++r) {
      std::memcpy(to + r * from.columns, data_of(from) + r * from.stride, from.columns * sizeof(float));
    }
  }

  void from_host(const float* from, const Tensor& to) override {
    for (int64_t r = 0; r < to.rows; ++r) {
      std::memcpy(data_of(to) + r * to.stride, from + r * to.columns, to.columns * sizeof(float));
    }
  }

  std::unique_ptr<BenchmarkHooks> benchmark_hooks() override { return make_benchmark_hooks(context_.pool); }

 private:
  float* copy_vector(const std::vector<float>& values) {
    auto* data = static_cast<float*>(allocate(vector_bytes(values.size()), MemoryUse::weights));
    std::memcpy(data, values.data(), values.size() * sizeof(float));
    return data;
  }

  CpuOptions options_;
  OperatorContext context_;
  std::vector<HostMemory> memory_;
  std::optional<OffloadFile> offload_;
  MemoryCount count_;
  std::optional<SamplingScratch> sampling_scratch_;  // of the last stage
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) { return std::make_unique<CpuBackend>(options); }

}  // namespace billfish::cpu
