#include "convert.h"

#include <cmath>

namespace billfish {
namespace {

[[noreturn]] void wrong(const char* name, const std::string& wanted) {
  throw Error("INVALID_OPTION", std::string("Native argument ") + name + " must be " + wanted + ".");
}

template <class TypedArray, class Element>
std::vector<Element> elements(const Napi::Value& value, const char* name, napi_typedarray_type type,
                              const char* wanted) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) wrong(name, wanted);
  const TypedArray array = value.As<TypedArray>();
  return std::vector<Element>(array.Data(), array.Data() + array.ElementLength());
}

}  // namespace

bool has(const Napi::Object& object, const char* name) { return !object.Get(name).IsUndefined(); }

Napi::Value property(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) wrong(name, "given");
  return value;
}

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

bool to_bool(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) wrong(name, "true or false");
  return value.As<Napi::Boolean>().Value();
}

double to_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) wrong(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t to_integer(const Napi::Value& value, const char* name, int64_t low, int64_t high) {
  const double number = to_number(value, name);
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || number != std::floor(number)) {
    wrong(name, "a whole number from " + std::to_string(low) + " to " + std::to_string(high) + ", not " +
                    std::to_string(number));
  }
  return static_cast<int64_t>(number);
}

float number(const Napi::Object& object, const char* name) {
  return static_cast<float>(to_number(property(object, name), name));
}

int64_t integer(const Napi::Object& object, const char* name, int64_t low, int64_t high) {
  return to_integer(property(object, name), name, low, high);
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) wrong(name, "an object");
  return value.As<Napi::Object>();
}

Napi::Array to_array(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) wrong(name, "an array");
  return value.As<Napi::Array>();
}

std::vector<int32_t> to_int32s(const Napi::Value& value, const char* name) {
  return elements<Napi::Int32Array, int32_t>(value, name, napi_int32_array, "an Int32Array");
}

std::vector<float> to_floats(const Napi::Value& value, const char* name) {
  return elements<Napi::Float32Array, float>(value, name, napi_float32_array, "a Float32Array");
}

std::vector<double> to_doubles(const Napi::Value& value, const char* name) {
  return elements<Napi::Float64Array, double>(value, name, napi_float64_array, "a Float64Array");
}

Napi::Error to_javascript(Napi::Env env, const Error& error) {
  Napi::Error thrown = Napi::Error::New(env, error.what());
  thrown.Set("code", Napi::String::New(env, error.code()));
  return thrown;
}

}  // namespace billfish
