// Every tensor of a stage lives on its stage's device: nothing is made on a default device, nothing of a neighbor's is
// touched. Two backends that know their own memory run a model, and look at every address that an operator is given.
#include <map>
#include <set>

#include "support/check.h"
#include "support/tiny_model.h"

using namespace billfish;

namespace {

// Forwards to the CPU backend, and refuses memory and weights that are not its own.
class WatchedBackend : public Backend {
 public:
  explicit WatchedBackend(const std::string& device) : inner_(TinyModel::plain_backend(device)) {}

  int operators = 0;
  int strangers = 0;

  const std::string& device() const override { return inner_->device(); }
  DType value_type(ValueClass kind) const override { return inner_->value_type(kind); }
  DType cache_type() const override { return inner_->cache_type(); }

  void* allocate(size_t bytes, MemoryUse use) override {
    void* data = inner_->allocate(bytes, use);
    memory_[static_cast<uint8_t*>(data)] = bytes;
    return data;
  }
  MemoryCount memory() const override { return inner_->memory(); }
  std::unique_ptr<BenchmarkHooks> benchmark_hooks() override { return inner_->benchmark_hooks(); }
  void prepare(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits) override {
    inner_->prepare(program, weights, limits);
  }

  std::unique_ptr<Weight> make_vector(const std::vector<float>& values) override {
    return own(inner_->make_vector(values));
  }
  std::unique_ptr<Weight> make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias) override {
    return own(inner_->make_matrix(out, in, type, bias));
  }
  void fill_matrix(Weight& weight, int64_t first, int64_t count, const void* rows) override {
    inner_->fill_matrix(weight, first, count, rows);
  }
  std::unique_ptr<Weight> make_quantized(const CanonicalShape& shape) override {
    return own(inner_->make_quantized(shape));
  }
  void fill_quantized(Weight& weight, const CanonicalRows& rows) override { inner_->fill_quantized(weight, rows); }

  void begin(const Batch& batch, const std::vector<RopeSpec>& ropes) override { inner_->begin(batch, ropes); }

#define BILLFISH_RUN(Name) \
  void run(const Call<Name>& call) override { look_and_run(call); }
  BILLFISH_BACKEND_OPERATORS(BILLFISH_RUN)
#undef BILLFISH_RUN

  void sample(const Tensor& logits, const SamplingRequests& requests, std::vector<Sampled>& samples) override {
    look({}, {&logits});
    inner_->sample(logits, requests, samples);
  }
  std::optional<NonFinite> find_non_finite(const Tensor& x) override {
    look({}, {&x});
    return inner_->find_non_finite(x);
  }
  void to_host(const Tensor& from, float* to) override {
    look({}, {&from});
    inner_->to_host(from, to);
  }
  void from_host(const float* from, const Tensor& to) override {
    look({}, {&to});
    inner_->from_host(from, to);
  }

 private:
  std::unique_ptr<Weight> own(std::unique_ptr<Weight> weight) {
    weights_.insert(weight.get());
    return weight;
  }

  template <class Operands>
  void look_and_run(const Operands& call) {
    for_each_field(call, [&](const auto& field, const auto& content) {
      if constexpr (kind_of<decltype(field)> == FieldKind::cache_layer) {
        if (!owns(content.keys, 1) || !owns(content.values, 1)) ++strangers;
      }
    });
    for_each_operand(call, [&](const auto& field, const auto& operand) {
      if constexpr (kind_of<decltype(field)> == FieldKind::weight) {
        look({operand}, {});
      } else {
        look({}, {&operand});
      }
    });
    inner_->run(call);
  }

  void look(std::initializer_list<const Weight*> weights, std::initializer_list<const Tensor*> tensors) {
    ++operators;
    for (const Weight* weight : weights) strangers += weights_.count(weight) == 0;
    for (const Tensor* tensor : tensors) {
      const auto elements = static_cast<size_t>((tensor->rows - 1) * tensor->stride + tensor->columns);
      strangers += !owns(tensor->data, elements * byte_size(tensor->type));
    }
  }

  bool owns(const void* data, size_t bytes) const {
    const auto* begin = static_cast<const uint8_t*>(data);
    auto after = memory_.upper_bound(const_cast<uint8_t*>(begin));
    if (after == memory_.begin()) return false;
    const auto& [start, size] = *std::prev(after);
    return begin + bytes <= start + size;
  }

  std::unique_ptr<Backend> inner_;
  std::map<uint8_t*, size_t> memory_;
  std::set<const Weight*> weights_;
};

}  // namespace

TEST(every_tensor_of_a_stage_lives_on_its_stages_device) {
  std::map<std::string, WatchedBackend*> backends;
  TinyModel model({4, 16, 12, 4}, [&](const std::string& device) {
    auto backend = std::make_unique<WatchedBackend>(device);
    backends[device] = backend.get();
    return backend;
  });
  CHECK(!model.submit(model.step({3, 1, 4, 1, 5, 9, 2, 6}, 0, 0, 3)).get()->error);
  CHECK(!model.submit(model.step({5}, 8, 0, 3)).get()->error);
  CHECK(backends.size() == 2);
  for (const auto& [device, backend] : backends) {
    CHECK(backend->device() == device);
    CHECK(backend->operators > 4);
    CHECK(backend->strangers == 0);
  }
  // The watch does see strangers: memory of the one given to the other.
  Tensor foreign;
  foreign.data = backends["cpu:0"]->allocate(64, MemoryUse::buffers);
  foreign.rows = 1;
  foreign.columns = foreign.stride = 16;
  backends["cpu:1"]->run(Call<Add>{foreign, foreign});
  CHECK(backends["cpu:1"]->strangers == 2);
}
