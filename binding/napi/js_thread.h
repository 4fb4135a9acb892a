// Calls from engine threads back into JavaScript.
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

}  // namespace billfish
