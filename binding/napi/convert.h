// JavaScript values to C++ ones. Every function throws Error("INVALID_OPTION") naming the property that is wrong;
// nothing here trusts TypeScript's checks.
#pragma once
#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/error.h"

namespace billfish {

// A property that must be there (undefined counts as missing).
Napi::Value property(const Napi::Object& object, const char* name);
bool has(const Napi::Object& object, const char* name);

std::string to_string(const Napi::Value& value, const char* name);
bool to_bool(const Napi::Value& value, const char* name);
double to_number(const Napi::Value& value, const char* name);
// A whole number within [low, high] (at most 2^53).
int64_t to_integer(const Napi::Value& value, const char* name, int64_t low, int64_t high);
constexpr int64_t int32_max = 0x7fffffff;
// Of properties that must be there.
float number(const Napi::Object& object, const char* name);
int64_t integer(const Napi::Object& object, const char* name, int64_t low, int64_t high);
Napi::Object to_object(const Napi::Value& value, const char* name);
Napi::Array to_array(const Napi::Value& value, const char* name);
std::vector<int32_t> to_int32s(const Napi::Value& value, const char* name);  // an Int32Array
std::vector<float> to_floats(const Napi::Value& value, const char* name);    // a Float32Array
std::vector<double> to_doubles(const Napi::Value& value, const char* name);  // a Float64Array

// A JavaScript error with `code` and message of the native one.
Napi::Error to_javascript(Napi::Env env, const Error& error);

// Runs `body`, turning Error and other C++ exceptions into JavaScript ones.
template <class Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Error& error) {
    throw to_javascript(env, error);
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw to_javascript(env, Error("INTERNAL", error.what()));
  }
}

}  // namespace billfish
