// A promise that an engine thread settles: between begin() and end() its object is not collected and the process stays
// alive.
#pragma once
#include <napi.h>

#include <memory>

#include "js_thread.h"

namespace billfish {

// For the JavaScript thread alone. Functions that other threads post hold it by shared pointer; after end() any thread
// may be the last to let it go.
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
