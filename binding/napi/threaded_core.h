// The native side of a JavaScript object that works on its own threads.
#pragma once
#include <napi.h>

#include <exception>
#include <memory>
#include <new>
#include <string>

#include "engine/error.h"
#include "js_thread.h"

namespace billfish {

// The native part of the object. Its threads refer to it by raw pointer and it outlives them: stop() joins them when
// the object is collected (never while one of its promises is open, see OpenPromise) or when its environment ends.
class ThreadedCore {
 public:
  // The hook is registered after the queue of `js`, so that it runs before the queue's own cleanup: when a process or
  // worker ends with work in flight, our threads end before the queue that they post to.
  explicit ThreadedCore(Napi::Env env) : js(env) { napi_add_env_cleanup_hook(env, environment_ends, this); }
  virtual ~ThreadedCore() = default;
  ThreadedCore(const ThreadedCore&) = delete;
  ThreadedCore& operator=(const ThreadedCore&) = delete;

  // JavaScript thread, before the object is destroyed.
  void shutdown(Napi::Env env) {
    stop();
    if (environment_ended_) return;
    napi_remove_env_cleanup_hook(env, environment_ends, this);
    js.release();
  }

  JsThread js;

 protected:
  // JavaScript thread: cancels work in flight and waits for all threads. Called once or twice.
  virtual void stop() = 0;

  // What action() throws, or null. `subject` starts a sentence: "The benchmark".
  template <class Action>
  static std::unique_ptr<Error> error_of(const std::string& subject, const Action& action) {
    try {
      action();
      return nullptr;
    } catch (const Error& error) {
      return std::make_unique<Error>(error);
    } catch (const std::bad_alloc&) {
      return std::make_unique<Error>("OUT_OF_MEMORY", subject + " failed: the host has no memory left for it.");
    } catch (const std::exception& error) {
      return std::make_unique<Error>("INTERNAL", subject + " failed: " + error.what());
    }
  }

 private:
  static void environment_ends(void* data) {
    auto* core = static_cast<ThreadedCore*>(data);
    core->environment_ended_ = true;
    core->stop();
  }

  bool environment_ended_ = false;
};

}  // namespace billfish
