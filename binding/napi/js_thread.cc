#include "js_thread.h"

#include <utility>

namespace billfish {

JsThread::JsThread(Napi::Env env) : queue_(Queue::New(env, "billfish", 0, 1)) { queue_.Unref(env); }

void JsThread::begin(Napi::Env env) {
  if (open_++ == 0) queue_.Ref(env);
}

void JsThread::end(Napi::Env env) {
  if (--open_ == 0 && !released_) queue_.Unref(env);
}

void JsThread::release() {
  if (std::exchange(released_, true)) return;
  queue_.Release();
}

void JsThread::post(std::function<void(Napi::Env)> function) {
  // If the environment is going down, the call is leaked on purpose: it holds JavaScript references, which must not be
  // released on another thread or after their environment.
  queue_.NonBlockingCall(new Call(std::move(function)));
}

void JsThread::run(Napi::Env env, Napi::Function, std::nullptr_t*, Call* call) {
  if (env == nullptr) return;  // going down: leaked, see post()
  const std::unique_ptr<Call> owned(call);
  try {
    (*owned)(env);
  } catch (const Napi::Error&) {
    // A worker that is being terminated no longer runs JavaScript: its promises cannot be settled, and nobody waits for
    // them.
  }
}

}  // namespace billfish
