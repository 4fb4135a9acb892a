// NativeModel: the JavaScript class behind a loaded model. It turns arguments into C++ values and completions into
// promises; the work is done by checkpoint/loader.h and engine/pipeline.h on their own threads.
#include <napi.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "checkpoint/loader.h"
#include "convert.h"
#include "engine/pipeline.h"
#include "engine/warm_up.h"
#include "exports.h"
#include "js_thread.h"
#include "model_spec.h"
#include "step_request.h"
#include "threaded_core.h"

namespace billfish {
namespace {

class ModelCore final : public ThreadedCore {
 public:
  ModelCore(Napi::Env env, ModelSpec spec) : ThreadedCore(env), spec_(std::move(spec)) {}

  // JavaScript thread. Starts loading on a new thread; `done` is called there at the end, with an error or null.
  void start_load(std::function<void(std::unique_ptr<Error>)> done, std::function<void()> on_progress) {
    if (load_thread_.joinable() || refused_) throw Error("INTERNAL", "A model is loaded once.");
    control_.on_progress = std::move(on_progress);
    load_thread_ = std::thread([this, done = std::move(done)] {
      std::unique_ptr<Error> error = error_of("Loading", [&] { build(); });
      if (error) pipeline_.reset();
      loaded_ = error == nullptr;
      done(std::move(error));
    });
  }

  // JavaScript thread, before loading. What remains to be added.
  ModelSpec& spec() {
    if (load_thread_.joinable() || refused_) throw Error("INTERNAL", "Nothing is added to a model once it is loaded.");
    return spec_;
  }

  void abort_load() { control_.cancelled = true; }
  uint64_t bytes_done() const { return control_.bytes_done; }

  // JavaScript thread. Null before loading has ended and after closing has begun.
  Pipeline* pipeline() const { return loaded_ && !refused_ ? pipeline_.get() : nullptr; }

  // JavaScript thread. Closes on a new thread (joining the stages and freeing gigabytes takes a while), then calls
  // `done` there. False if closing has already begun.
  bool start_close(std::function<void()> done) {
    if (std::exchange(refused_, true)) return false;
    close_thread_ = std::thread([this, done = std::move(done)] {
      close();
      done();
    });
    return true;
  }

 private:
  // Frees the model's memory, too.
  void stop() override {
    refused_ = true;
    if (close_thread_.joinable()) close_thread_.join();
    close();
  }

  void close() {
    control_.cancelled = true;
    if (load_thread_.joinable()) load_thread_.join();
    pipeline_.reset();
  }

  void build() {
    MappedFiles files;
    for (const std::string& path : spec_.files) files.push_back(std::make_shared<MappedFile>(path));
    std::vector<std::unique_ptr<Backend>> backends;
    std::vector<std::vector<WeightShape>> shapes;
    for (const StageSpec& stage : spec_.stages) {
      std::transform(stage.weights.begin(), stage.weights.end(), std::back_inserter(shapes.emplace_back()), shape_of);
      validate(stage.program, shapes.back());
      const StageOutline outline{stage.program, shapes.back(), spec_.limits, stage.rank == 0};
      backends.push_back(make_backend(stage.device, spec_.backend));
      // Of all stages: a device without room is known before anything is loaded.
      backends.back()->reserve(plan_memory(stage.device, outline, spec_.backend).count.total());
    }
    std::vector<std::unique_ptr<Stage>> stages;
    const int ranks = spec_.tensor_parallel_size;
    for (size_t i = 0; i < spec_.stages.size();) {
      const size_t first = i;
      const auto group = ranks > 1 ? std::make_shared<RankGroup>(ranks) : nullptr;
      std::vector<std::unique_ptr<Stage>> workers, branches;
      do {
        const int rank = spec_.stages[i].rank;
        auto own = make_rank(spec_.stages[i], std::move(shapes[i]), std::move(backends[i]),
                             {rank < ranks ? group : nullptr, rank});
        (rank == 0 ? stages : rank < ranks ? workers : branches).push_back(std::move(own));
      } while (++i < spec_.stages.size() && spec_.stages[i].rank > 0);
      Stage& stage = *stages.back();
      // Before anything is loaded: they may be refused.
      if (!workers.empty()) stage.attach_workers(std::move(workers));
      stage.attach_branches(std::move(branches));
      load_rank(stage, spec_.stages[first].weights, files);
      for (size_t other = first + 1; Stage * companion : stage.companions()) {
        load_rank(*companion, spec_.stages[other++].weights, files);
      }
    }
    pipeline_ = std::make_unique<Pipeline>(std::move(stages), spec_.limits, spec_.vocabulary);
    pipeline_->start();
    warm_up(*pipeline_, spec_.limits, control_.cancelled);
  }

  std::unique_ptr<Stage> make_rank(StageSpec& spec, std::vector<WeightShape> shapes, std::unique_ptr<Backend> backend,
                                   StageRank rank) {
    return std::make_unique<Stage>(std::move(backend), std::move(spec.program), std::move(shapes), spec_.limits,
                                   std::move(rank));
  }

  void load_rank(Stage& stage, const std::vector<WeightSpec>& weights, const MappedFiles& files) {
    if (spec_.random_weights) {
      load_random_weights(stage, weights, control_);
    } else {
      load_weights(stage, weights, files, control_);
    }
  }

  ModelSpec spec_;
  LoadControl control_;
  std::thread load_thread_, close_thread_;
  std::unique_ptr<Pipeline> pipeline_;
  std::atomic<bool> loaded_{false};
  bool refused_ = false;
};

class NativeModel : public Napi::ObjectWrap<NativeModel> {
 public:
  static void init(Napi::Env env, Napi::Object exports);
  explicit NativeModel(const Napi::CallbackInfo& info);
  ~NativeModel() override;

 private:
  void take_experts(const Napi::CallbackInfo& info);   // addExperts(list, experts)
  void take(const Napi::CallbackInfo& info);           // add(stage, program, weights)
  Napi::Value load(const Napi::CallbackInfo& info);    // load(onProgress(bytesDone)): Promise<void>
  void abort_load(const Napi::CallbackInfo& info);     // abortLoad(): the promise of load() rejects with ABORTED
  Napi::Value step(const Napi::CallbackInfo& info);    // step(request): Promise<result>
  Napi::Value memory(const Napi::CallbackInfo& info);  // memory(): [{device, weights, kvCache, buffers}]
  Napi::Value close(const Napi::CallbackInfo& info);   // close(): Promise<void>; steps in flight reject with DISPOSED

  std::unique_ptr<ModelCore> core_;
};

Napi::Promise rejected(Napi::Env env, const Error& error) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(to_javascript(env, error).Value());
  return deferred.Promise();
}

Error disposed() { return Error("DISPOSED", "The model has been disposed. Load it again to use it."); }

void NativeModel::init(Napi::Env env, Napi::Object exports) {
  exports["NativeModel"] = DefineClass(env, "NativeModel",
                                       {
                                           InstanceMethod<&NativeModel::take_experts>("addExperts"),
                                           InstanceMethod<&NativeModel::take>("add"),
                                           InstanceMethod<&NativeModel::load>("load"),
                                           InstanceMethod<&NativeModel::abort_load>("abortLoad"),
                                           InstanceMethod<&NativeModel::step>("step"),
                                           InstanceMethod<&NativeModel::memory>("memory"),
                                           InstanceMethod<&NativeModel::close>("close"),
                                       });
}

NativeModel::NativeModel(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    ModelSpec spec = parse_model_spec(to_object(info[0], "spec"));
    core_ = std::make_unique<ModelCore>(info.Env(), std::move(spec));
  });
}

NativeModel::~NativeModel() {
  if (core_) core_->shutdown(Env());
}

void NativeModel::take_experts(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { add_experts(core_->spec(), info); });
}

void NativeModel::take(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { add(core_->spec(), info); });
}

Napi::Value NativeModel::load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ModelCore* core = core_.get();
  const auto promise = std::make_shared<OpenPromise>(info, core->js);
  const auto on_progress = std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));

  const auto done = [core, promise, on_progress](std::unique_ptr<Error> error) {
    const std::shared_ptr<Error> failure = std::move(error);
    core->js.post([promise, on_progress, failure](Napi::Env env) {
      on_progress->Reset();
      if (failure) {
        promise->end(env).Reject(to_javascript(env, *failure).Value());
      } else {
        promise->end(env).Resolve(env.Undefined());
      }
    });
  };
  // At most one progress call waits for the JavaScript thread at a time, however many slabs are done meanwhile.
  const auto waiting = std::make_shared<std::atomic<bool>>(false);
  const auto progress = [core, on_progress, waiting] {
    if (waiting->exchange(true)) return;
    core->js.post([core, on_progress, waiting](Napi::Env env) {
      *waiting = false;
      if (!on_progress->IsEmpty()) on_progress->Call({Napi::Number::New(env, static_cast<double>(core->bytes_done()))});
    });
  };
  guarded(env, [&] { core->start_load(done, progress); });
  return promise->begin(env);
}

void NativeModel::abort_load(const Napi::CallbackInfo&) { core_->abort_load(); }

Napi::Value NativeModel::step(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Pipeline* pipeline = core_->pipeline();
  if (!pipeline) return rejected(env, disposed());
  std::shared_ptr<Step> step;
  try {
    step = parse_step(to_object(info[0], "request"));
    pipeline->check(*step);
  } catch (const Error& error) {
    return rejected(env, error);
  }
  ModelCore* core = core_.get();
  const auto promise = std::make_shared<OpenPromise>(info, core->js);
  step->done = [core, promise](const std::shared_ptr<Step>& finished) {
    core->js.post([promise, finished](Napi::Env env) {
      if (finished->error) {
        promise->end(env).Reject(to_javascript(env, *finished->error).Value());
      } else {
        promise->end(env).Resolve(step_output(env, *finished));
      }
    });
  };
  pipeline->submit(std::move(step));
  return promise->begin(env);
}

Napi::Value NativeModel::memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Pipeline* pipeline = core_->pipeline();
  if (!pipeline) throw to_javascript(env, disposed());
  Napi::Array list = Napi::Array::New(env);
  const auto add = [&](const Backend& backend) {
    const MemoryCount count = backend.memory();
    Napi::Object entry = Napi::Object::New(env);
    entry["device"] = Napi::String::New(env, backend.device());
    entry["weights"] = Napi::Number::New(env, static_cast<double>(count.weights));
    entry["states"] = Napi::Number::New(env, static_cast<double>(count.states));
    entry["kvCache"] = Napi::Number::New(env, static_cast<double>(count.kv_cache));
    entry["buffers"] = Napi::Number::New(env, static_cast<double>(count.buffers));
    list[list.Length()] = entry;
  };
  for (const auto& stage : pipeline->stages()) {
    add(stage->backend());
    for (const Stage* companion : stage->companions()) add(companion->backend());
  }
  return list;
}

Napi::Value NativeModel::close(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  ModelCore* core = core_.get();
  const auto promise = std::make_shared<OpenPromise>(info, core->js);
  const bool begun = core->start_close(
      [core, promise] { core->js.post([promise](Napi::Env env) { promise->end(env).Resolve(env.Undefined()); }); });
  return begun ? promise->begin(env) : rejected(env, disposed());
}

}  // namespace

void init_model(Napi::Env env, Napi::Object exports) { NativeModel::init(env, exports); }

}  // namespace billfish
