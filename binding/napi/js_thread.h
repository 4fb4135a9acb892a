// Calls from engine threads back into JavaScript, and the promises that they settle.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>

namespace billfish {

// Runs functions on the JavaScript thread of one environment. The process stays alive while work is open (between
// begin() and end()), and only then: an idle model does not keep a program running.
class JsThread {
 public:
  explicit JsThread(Napi::Env env);

  // JavaScript thread only.
  void begin(Napi::Env env);
  void end(Napi::Env env);
  void release();

  // Any thread. The function is dropped if the environment is already going down.
  void post(std::function<void(Napi::Env)> function);

 private:
  using Call = std::function<void(Napi::Env)>;
  static void run(Napi::Env env, Napi::Function, std::nullptr_t*, Call* call);
  using Queue = Napi::TypedThreadSafeFunction<std::nullptr_t, Call, run>;
  Queue queue_;
  int open_ = 0;
  bool released_ = false;
};

// A promise that an engine thread settles: between begin() and end() its object is not collected and the process stays
// alive. For the JavaScript thread alone. Functions that other threads post hold it by shared pointer; after end() any
// thread may be the last to let it go.
class OpenPromise {
 public:
  OpenPromise(const Napi::CallbackInfo& info, JsThread& js)
      : js_(js),
        deferred_(Napi::Promise::Deferred::New(info.Env())),
        self_(Napi::Persistent(info.This().As<Napi::Object>())) {}

  // Call once the work has been started.
  Napi::Promise begin(Napi::Env env) {
    js_.begin(env);
    return deferred_.Promise();
  }

  // Call once the work has ended, with what settles the promise.
  const Napi::Promise::Deferred& end(Napi::Env env) {
    self_.Reset();
    js_.end(env);
    return deferred_;
  }

 private:
  JsThread& js_;
  const Napi::Promise::Deferred deferred_;
  Napi::ObjectReference self_;
};

}  // namespace billfish
