#include "grammar.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "exports.h"

namespace billfish {
namespace {

constexpr int32_t max_skipped_spaces = 64;

// A JavaScript object that shares a C++ one. The tag tells it from objects of other classes. The methods are those of
// matchers, and compiled for them alone.
template <class T>
struct Shared : Napi::ObjectWrap<Shared<T>> {
  Shared(const Napi::CallbackInfo& info, std::shared_ptr<T> shared) : Napi::ObjectWrap<Shared<T>>(info) {
    value = std::move(shared);
    info.This().As<Napi::Object>().TypeTag(&tag);
  }
  explicit Shared(const Napi::CallbackInfo& info) : Shared(info, make(info)) {}
  static std::shared_ptr<T> make(const Napi::CallbackInfo& info);
  static const napi_type_tag tag;
  static std::shared_ptr<T> of(const Napi::Value& value, const char* name) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag)) {
      throw Error("INVALID_OPTION", std::string(name) + " is of another class.");
    }
    return Napi::ObjectWrap<Shared<T>>::Unwrap(value.As<Napi::Object>())->value;
  }

  Napi::Value accept(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      const auto token = static_cast<int32_t>(to_integer(info[0], "token", 0, int32_max));
      return Napi::Number::New(info.Env(), static_cast<int32_t>(value->accept(token)));
    });
  }
  Napi::Value allowed(const Napi::CallbackInfo& info) {
    const auto words = value->allowed();
    Napi::Uint32Array array = Napi::Uint32Array::New(info.Env(), words.size());
    std::memcpy(array.Data(), words.data(), words.size_bytes());
    return array;
  }
  Napi::Value failure(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), value->failure()); }

  std::shared_ptr<T> value;
};

template <>
const napi_type_tag Shared<TokenTrie>::tag = {0x62696c6c66697368, 0x546f6b656e547269};
template <>
const napi_type_tag Shared<Grammar>::tag = {0x62696c6c66697368, 0x4772616d6d617200};
template <>
const napi_type_tag Shared<Matcher>::tag = {0x62696c6c66697368, 0x4d61746368657200};

// new TokenTrie(bytes: Uint8Array, offsets: Int32Array)
template <>
std::shared_ptr<TokenTrie> Shared<TokenTrie>::make(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
      throw Error("INVALID_OPTION", "bytes must be a Uint8Array.");
    }
    const auto bytes = info[0].As<Napi::Uint8Array>();
    return std::make_shared<TokenTrie>(std::vector<uint8_t>(bytes.Data(), bytes.Data() + bytes.ElementLength()),
                                       to_int32s(info[1], "offsets"));
  });
}

// new Grammar(trie, states, byteEdges: Int32Array, calls: Int32Array, rules: Int32Array)
template <>
std::shared_ptr<Grammar> Shared<Grammar>::make(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto trie = Shared<TokenTrie>::of(info[0], "trie");
    const auto states = static_cast<int32_t>(to_integer(info[1], "states", 0, Automaton::max_states));
    return std::make_shared<Grammar>(
        std::move(trie),
        Automaton(states, to_int32s(info[2], "byteEdges"), to_int32s(info[3], "calls"), to_int32s(info[4], "rules")));
  });
}

// new Matcher(grammar, endTokens: Int32Array, leadingSpacesToStrip)
template <>
std::shared_ptr<Matcher> Shared<Matcher>::make(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto skipped = to_integer(info[2], "leadingSpacesToStrip", 0, max_skipped_spaces);
    return std::make_shared<Matcher>(Shared<Grammar>::of(info[0], "grammar"), to_int32s(info[1], "endTokens"),
                                     static_cast<int32_t>(skipped));
  });
}

}  // namespace

void init_grammar(Napi::Env env, Napi::Object exports) {
  exports["TokenTrie"] = Shared<TokenTrie>::DefineClass(env, "TokenTrie", {});
  exports["Grammar"] = Shared<Grammar>::DefineClass(env, "Grammar", {});
  using SharedMatcher = Shared<Matcher>;
  exports["Matcher"] = SharedMatcher::DefineClass(env, "Matcher",
                                                  {SharedMatcher::InstanceMethod<&SharedMatcher::accept>("accept"),
                                                   SharedMatcher::InstanceMethod<&SharedMatcher::allowed>("allowed"),
                                                   SharedMatcher::InstanceMethod<&SharedMatcher::failure>("failure")});
}

std::shared_ptr<Matcher> to_matcher(const Napi::Value& value, const char* name) {
  return Shared<Matcher>::of(value, name);
}

}  // namespace billfish
