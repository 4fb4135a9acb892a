// The Backend on a device of this target. It serves one stage on one stream: operators are queued and return
// immediately. The host waits only for what it copies itself; stages on other devices wait on their own streams.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/benchmark_hooks.h"
#include "backend/device_backend.h"
#include "backend/peer.h"
#include "backend/rank_exchange.h"
#include "backend/recorded_steps.h"
#include "backend/stage_memory.h"
#include "backend/stage_weights.h"
#include "backend/step_clock.h"
#include "cuda/memory/stage_needs.h"
#include "engine/error.h"
#include "engine/rank_group.h"
#include "layer/batch.h"
#include "layer/sampling.h"
#include "layer/tensor.h"
#include "operators/operator_context.h"
#include "primitives/numbers.h"
#include "runtime/libraries.h"
#include "runtime/stream.h"
#include "tuning/tuned_machine.h"

namespace billfish::BILLFISH_TARGET {

// Element: half or bfloat16, of activations, 16-bit weights and the KV cache. The residual stream and logits are fp32.
template <class Element>
class DeviceBackend final : public Peer {
 public:
  explicit DeviceBackend(Device& device)
      : device_(device),
        memory_(device, stream_),
        stream_(device),
        weights_(stream_, memory_, dtype_of<Element>),
        copied_(device),
        clock_(device),
        receiver_events_(device),
        exchange_(stream_),
        context_{stream_} {}
  ~DeviceBackend() override { DeviceBackend::drain(); }

  const std::string& device() const override { return device_.name(); }
  DType value_type(ValueClass kind) const override { return gpu::value_type(kind, dtype_of<Element>); }
  DType cache_type() const override { return dtype_of<Element>; }

  // --- Memory.

  void reserve(uint64_t bytes) override { memory_.reserve(bytes); }

  void prepare(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits) override {
    const gpu::StageNeeds needs({program, weights, limits});
    const gpu::StageBuffers bytes(needs, program);
    const auto buffer = [&](size_t count) { return count > 0 ? allocate(count, MemoryUse::buffers) : nullptr; };
    void* image = buffer(bytes.batch);
    stream_.synchronize();  // the batch writes to its memory on its own stream, after the zeroing
    batch_.emplace(device_, image, needs.batch, program.ropes, needs.attention);
    memory_.keep(image);  // it holds the program's frequencies
    context_.batch = &*batch_;
    context_.attention = needs.attention;
    context_.attention_scratch = buffer(bytes.attention_scratch);
    if (needs.has_linears) prepare_linears(buffer(bytes.linear_workspace), bytes.linear_workspace, needs.linear);
    context_.grouping = buffer(bytes.grouping);
    context_.gathered = static_cast<Element*>(buffer(bytes.gathered));
    context_.narrowed = static_cast<Element*>(buffer(bytes.narrowed));
    widened_ = static_cast<float*>(buffer(bytes.widened));
    if (bytes.peer > 0) {
      static_assert(gpu::peer_buffers == PeerChannel::slots);
      const auto states = [&] { return static_cast<float*>(buffer(bytes.peer)); };
      peer_channel_.emplace(device_, std::array<float*, PeerChannel::slots>{states(), states()});
    }
    if (bytes.sampling > 0) sampler_.emplace(device_, buffer(bytes.sampling), needs.sampling);
    weights_.set_slab_bytes(needs.slab_bytes);
  }

  void* allocate(size_t bytes, MemoryUse use) override { return memory_.allocate(bytes, use); }
  MemoryCount memory() const override { return memory_.count(); }
  void* allocate_host(size_t bytes) override { return memory_.allocate_host(bytes); }

  // --- Weights.

  std::unique_ptr<Weight> make_vector(const std::vector<float>& values) override {
    return weights_.make_vector(values);
  }
  std::unique_ptr<Weight> make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias) override {
    return weights_.make_matrix(out, in, type, bias);
  }
  void fill_matrix(Weight& weight, int64_t first, int64_t count, const void* rows) override {
    weights_.fill_matrix(weight, first, count, rows);
  }
  std::unique_ptr<Weight> make_quantized(const CanonicalShape& shape) override {
    return weights_.make_quantized(shape);
  }
  void fill_quantized(Weight& weight, const CanonicalRows& rows) override { weights_.fill_quantized(weight, rows); }
  void finish_loading() override { weights_.finish(); }
  bool wants_warm_up() const override {
    if (!device_.properties().emulated) return true;
    const char* const wanted = std::getenv("BILLFISH_EMULATED_WARM_UP");  // which takes seconds on emulated devices
    return wanted != nullptr && std::string(wanted) == "on";
  }

  // --- Steps.

  void begin(const Batch& batch, const std::vector<RopeSpec>&) override {
    start_step();
    clock_.begin(stream_);
    batch_->upload(stream_, batch);
    batch_->make_rope_tables(stream_);
  }

  int64_t begin_decode(const Batch& batch, const std::vector<RopeSpec>&, int64_t max_rows) override {
    const int64_t rows = recorded_.rows_for(batch.rows(), max_rows);
    start_step();
    clock_.begin(stream_);
    batch_->upload(stream_, batch, static_cast<int32_t>(rows));
    if (rows == 0) {
      recorded_.begin_unrecorded();
      return batch.rows();
    }
    std::vector<int32_t> key = batch_->provide_for_more();
    key.push_back(static_cast<int32_t>(rows));
    recorded_.begin(key);
    return rows;
  }
  void run_part(size_t part, const std::function<void()>& operators) override {
    if (part > 0) return recorded_.run(stream_, part, operators);
    const auto first_part = [&] {
      batch_->make_rope_tables(stream_);
      operators();
    };
    recorded_.run(stream_, part, std::ref(first_part));
  }
  std::string take_notice() override {
    return link_notice_.empty() ? recorded_.take_notice() : std::exchange(link_notice_, {});
  }

  std::unique_ptr<StageWork> end() override {
    started_ = false;
    return clock_.end(stream_);
  }

  void drain() override {
    started_ = false;
    BILLFISH_TARGET::drain(stream_);
  }

#define BILLFISH_RUN(Name) \
  void run(const Call<billfish::Name>& call) override { BILLFISH_TARGET::run(context_, call); }
  BILLFISH_BACKEND_OPERATORS(BILLFISH_RUN)
#undef BILLFISH_RUN

  // Usually all rows at once, with one wait: only lists of many thousand tokens take several rounds.
  void sample(const Tensor& logits, const SamplingRequests& requests, std::vector<Sampled>& samples) override {
    const Matrix<float> all = matrix<float>(logits);
    for (size_t first = 0; first < requests.size();) {
      const size_t count = sampler_->send(stream_, requests, first);
      sampler_->run(stream_, {all.data + static_cast<int64_t>(first) * all.stride, static_cast<int64_t>(count),
                              all.columns, all.stride});
      sampler_->fetch(stream_);
      sampler_->results(stream_, samples);
      first += count;
    }
  }

  std::optional<NonFinite> find_non_finite(const Tensor& x) override {
    const size_t row_bytes = static_cast<size_t>(x.columns) * byte_size(x.type);
    std::vector<std::byte> rows(static_cast<size_t>(x.rows) * row_bytes);
    const auto* const from = static_cast<const std::byte*>(x.data);
    for (size_t row = 0; row < static_cast<size_t>(x.rows); ++row) {
      const size_t at = row * static_cast<size_t>(x.stride) * byte_size(x.type);
      stream_.copy_to_host(rows.data() + row * row_bytes, from + at, row_bytes);
    }
    wait_for_copies();
    return billfish::find_non_finite(rows.data(), x.type, x.rows, x.columns, x.columns);
  }

  // --- To and from the host. Page-locked memory (allocate_host) is copied directly.

  void to_host(const Tensor& from, float* to) override {
    const Matrix<const float> x = widened(from);
    for_each_run(x.rows, x.columns, x.stride, [&](int64_t at, int64_t packed, int64_t count) {
      stream_.copy_to_host(to + packed, x.data + at, static_cast<size_t>(count) * sizeof(float));
    });
    wait_for_copies();
  }

  void from_host(const float* from, const Tensor& to) override {
    start_step();
    const bool is_narrow = to.type != DType::f32;
    const Matrix<float> x = is_narrow ? packed_wide(to) : matrix<float>(to);
    for_each_run(x.rows, x.columns, x.stride, [&](int64_t at, int64_t packed, int64_t count) {
      stream_.copy_to_device(x.data + at, from + packed, static_cast<size_t>(count) * sizeof(float));
    });
    wait_for_copies();
    if (is_narrow) convert<float, Element>(stream_, x, matrix<Element>(to));
  }

  // --- To and from other devices of this target.

  bool can_receive_from(const Backend& sender) const override {
    const auto* peer = dynamic_cast<const Peer*>(&sender);
    if (peer == nullptr) return false;
    const std::string objection = device_.peer_access_error(peer->target_device());
    if (objection.empty()) return true;
    link_notice_ = "Hidden states go from " + sender.device() + " to " + device() +
                   " through host memory, which is slower, because " + objection + ".";
    return false;
  }

  bool send_to_peer(const Tensor& from) override {
    return peer_channel_->send(stream_, [&](float* buffer) {
      const Matrix<const float> x = widened(from);
      for_each_run(x.rows, x.columns, x.stride, [&](int64_t at, int64_t packed, int64_t count) {
        stream_.copy(buffer + packed, x.data + at, static_cast<size_t>(count) * sizeof(float));
      });
    });
  }

  void receive_from_peer(Backend& sender, const Tensor& to) override {
    start_step();
    auto& peer = static_cast<Peer&>(sender);
    const Matrix<float> x = matrix<float>(to);
    peer.peer_channel().receive(stream_, receiver_events_, [&](const float* buffer) {
      for_each_run(x.rows, x.columns, x.stride, [&](int64_t at, int64_t packed, int64_t count) {
        stream_.copy_from(peer.target_device(), x.data + at, buffer + packed,
                          static_cast<size_t>(count) * sizeof(float));
      });
    });
  }

  const Device& target_device() const override { return device_; }
  PeerChannel& peer_channel() override { return *peer_channel_; }

  Stream& stream() override { return stream_; }

  // --- With the other ranks of a stage.

  std::unique_ptr<RankLink> link(const std::vector<Backend*>& ranks) override {
    RankLinkChoice choice = link_ranks(ranks);
    link_notice_ = std::move(choice.notice);
    return std::move(choice.link);
  }
  void publish() override { exchange_.publish(); }
  void all_reduce(RankGroup& group, int rank) override { exchange_.all_reduce<Element>(*this, group, rank); }
  void all_gather(const RankGroup& group, int rank) override { exchange_.all_gather<Element>(*this, group, rank); }
  void release(const RankGroup& group) override { exchange_.release(*this, group); }
  const RankExchange& exchange() const override { return exchange_; }

  // --- For benchmarks.

  std::unique_ptr<BenchmarkHooks> benchmark_hooks() override {
    return make_benchmark_hooks(stream_, library_.get(), [](const Weight& weight) -> const LinearWeight& {
      return static_cast<const MatrixWeight&>(weight).linear;
    });
  }

 private:
  void prepare_linears(void* workspace, size_t bytes, const LinearLimits& limits) {
    machine_.emplace(device_);
    LinearWorkspace& linears = context_.linears;
    linears.data = workspace;
    linears.bytes = bytes;
    linears.panel_bytes = limits.panel_bytes;
    linears.machine = &machine_->machine();
    library_ = open_matrix_library(stream_, library_workspace(linears));
    linears.library = library_.get();
  }

  template <class T>
  Matrix<T> matrix(const Tensor& tensor) const {
    return matrix_of<T>(tensor, device_);
  }

  // Room for a 16-bit value in fp32, in which the host exchanges values.
  Matrix<float> packed_wide(const Tensor& x) const { return {widened_, x.rows, x.columns, x.columns}; }

  // A stage that ends with a norm has a 16-bit output.
  Matrix<const float> widened(const Tensor& x) {
    if (x.type == DType::f32) return matrix<float>(x);
    const Matrix<float> out = packed_wide(x);
    convert<Element, float>(stream_, matrix<Element>(x), out);
    return out;
  }

  // Calls run(offset, contiguous offset, elements) for each row of a matrix, or once if it is contiguous.
  template <class Run>
  static void for_each_run(int64_t rows, int64_t columns, int64_t stride, Run run) {
    if (stride == columns) {
      run(0, 0, rows * columns);
      return;
    }
    for (int64_t r = 0; r < rows; ++r) run(r * stride, r * columns, columns);
  }

  // The first call of a step, whichever it is. Work queued behind a failure does not run; once the failed step has been
  // reported, the stream is reset for the next one.
  void start_step() {
    if (std::exchange(started_, true) || !clock_.has_failed()) return;
    BILLFISH_TARGET::drain(stream_);
    if (peer_channel_) peer_channel_->clear_failures();
  }

  void wait_for_copies() {
    stream_.record(copied_);
    copied_.synchronize();
  }

  Device& device_;
  StageMemory memory_;  // destroyed last: queued work may use it
  Stream stream_;
  StageWeights weights_;
  Event copied_;
  StepClock clock_;
  bool started_ = false;
  RecordedSteps recorded_;
  std::optional<DeviceBatch> batch_;
  std::optional<TunedMachine> machine_;
  std::unique_ptr<MatrixLibrary> library_;
  float* widened_ = nullptr;
  std::optional<PeerChannel> peer_channel_;
  PeerChannel::ReceiverEvents receiver_events_;
  RankExchange exchange_;
  OperatorContext<Element> context_;
  mutable std::string link_notice_;  // from connecting the stage
  std::optional<Sampler> sampler_;   // of the last stage
};

std::unique_ptr<Backend> make_backend(const DeviceBackendOptions& options) {
  Device& device = Device::at(options.index);
  switch (options.activation_type) {
    case DType::f16:
      return std::make_unique<DeviceBackend<half>>(device);
    case DType::bf16:
      return std::make_unique<DeviceBackend<bfloat16>>(device);
    default:
      throw Error("INVALID_OPTION", device.name() + " computes in 16 bits; use dtype 'float16' or 'bfloat16' there.");
  }
}

}  // namespace billfish::BILLFISH_TARGET
