#include "task.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "convert.h"
#include "js_thread.h"
#include "threaded_core.h"

namespace billfish {

class TaskCore final : public ThreadedCore {
 public:
  TaskCore(Napi::Env env, Work work) : ThreadedCore(env), work_(std::move(work)) {}

  // JavaScript thread. `done` is called on the task's thread, with the final report or an error.
  void start(Report on_result, std::function<void(Fill, std::unique_ptr<Error>)> done) {
    if (thread_.joinable()) throw Error("INTERNAL", "A task runs once.");
    thread_ = std::thread([this, on_result = std::move(on_result), done = std::move(done)] {
      Fill end;
      std::unique_ptr<Error> error = error_of("The computation", [&] { end = work_(control_, on_result); });
      done(std::move(end), std::move(error));
    });
  }

  void abort() { control_.cancelled = true; }

 private:
  void stop() override {
    abort();
    if (thread_.joinable()) thread_.join();
  }

  Work work_;
  Control control_;
  std::thread thread_;
};

static Work parse_work(const Napi::Object& spec) {
  const std::string kind = to_string(property(spec, "kind"), "kind");
  if (kind == "gemm") return gemm_work(spec);
  if (kind == "attention") return attention_work(spec);
  if (kind == "tune") return tune_work(spec);
  if (kind == "padding") return padding_work(spec);
  throw Error("INVALID_OPTION", "There is no task '" + kind + "'.");
}

static Napi::Object filled(Napi::Env env, const Fill& fill) {
  Napi::Object object = Napi::Object::New(env);
  fill(object);
  return object;
}

void NativeTask::init(Napi::Env env, Napi::Object exports) {
  exports["NativeTask"] = DefineClass(env, "NativeTask",
                                      {
                                          InstanceMethod<&NativeTask::run>("run"),
                                          InstanceMethod<&NativeTask::abort>("abort"),
                                      });
}

NativeTask::NativeTask(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] { core_ = std::make_unique<TaskCore>(info.Env(), parse_work(to_object(info[0], "spec"))); });
}

NativeTask::~NativeTask() {
  if (core_) core_->shutdown(Env());
}

Napi::Value NativeTask::run(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  TaskCore* core = core_.get();
  const auto promise = std::make_shared<OpenPromise>(info, core->js);
  const auto on_result = std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));

  const auto report = [core, on_result](Fill fill) {
    core->js.post([on_result, fill = std::move(fill)](Napi::Env env) { on_result->Call({filled(env, fill)}); });
  };
  const auto done = [core, promise, on_result](Fill end, std::unique_ptr<Error> error) {
    const std::shared_ptr<Error> failure = std::move(error);
    core->js.post([promise, on_result, end = std::move(end), failure](Napi::Env env) {
      on_result->Reset();
      if (failure) {
        promise->end(env).Reject(to_javascript(env, *failure).Value());
      } else {
        promise->end(env).Resolve(filled(env, end));
      }
    });
  };
  guarded(env, [&] { core->start(report, done); });
  return promise->begin(env);
}

void NativeTask::abort(const Napi::CallbackInfo&) { core_->abort(); }

}  // namespace billfish
