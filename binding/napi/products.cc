#include "products.h"

#include "convert.h"
#include "padding/products.h"

namespace billfish {

namespace {

using padding::FloatType;
using padding::Grid;
using padding::Inputs;

// The memory of a typed array, which does not move during a call.
template <class Element>
struct Elements {
  Element* data;
  size_t count;
};

template <class Array>
auto elements(const Napi::Object& spec, const char* name, napi_typedarray_type type) {
  const Napi::Value value = property(spec, name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Error("INVALID_OPTION", std::string("Native argument ") + name + " must be a typed array of its own type.");
  }
  Array array = value.As<Array>();
  return Elements<std::remove_pointer_t<decltype(array.Data())>>{array.Data(), array.ElementLength()};
}

auto doubles(const Napi::Object& spec, const char* name) {
  return elements<Napi::Float64Array>(spec, name, napi_float64_array);
}

auto codes_of(const Napi::Object& spec) { return elements<Napi::Int32Array>(spec, "codes", napi_int32_array); }

void check_count(const char* name, size_t count, size_t wanted) {
  if (count == wanted) return;
  throw Error("INVALID_OPTION", std::string("Native argument ") + name + " has " + std::to_string(count) +
                                    " elements, but must have " + std::to_string(wanted) + ".");
}

size_t leading_of(const Napi::Object& spec, size_t inputs) {
  return static_cast<size_t>(to_integer(property(spec, "leading"), "leading", 0, static_cast<int64_t>(inputs)));
}

int bits_of(const Napi::Object& spec) {
  const auto bits = static_cast<int>(to_integer(property(spec, "bits"), "bits", 4, 8));
  if (bits != 4 && bits != 8) throw Error("INVALID_OPTION", "Native argument bits must be 4 or 8.");
  return bits;
}

FloatType float_type(const std::string& name) {
  if (name == "F32") return FloatType::f32;
  if (name == "F16") return FloatType::f16;
  if (name == "BF16") return FloatType::bf16;
  throw Error("INVALID_OPTION", "Native argument type must be F32, F16 or BF16, not " + name + ".");
}

// Scales and zero points of `outputs` outputs, and the group of each of `inputs` inputs.
Grid grid_of(const Napi::Object& spec, size_t outputs, size_t inputs) {
  const auto scales = elements<Napi::Float32Array>(spec, "scales", napi_float32_array);
  const auto zeros = elements<Napi::Uint8Array>(spec, "zeros", napi_uint8_array);
  const auto group_of = elements<Napi::Int32Array>(spec, "groupOf", napi_int32_array);
  const size_t groups = outputs == 0 ? 0 : scales.count / outputs;
  check_count("scales", scales.count, groups * outputs);
  check_count("zeros", zeros.count, groups * outputs);
  check_count("groupOf", group_of.count, inputs);
  for (size_t k = 0; k < inputs; ++k) {
    if (group_of.data[k] >= 0 && static_cast<size_t>(group_of.data[k]) < groups) continue;
    throw Error("INVALID_CHECKPOINT", "Input " + std::to_string(k) + " of a slab is of group " +
                                          std::to_string(group_of.data[k]) + ", but there are " +
                                          std::to_string(groups) + " groups.");
  }
  return {scales.data, zeros.data, groups, group_of.data};
}

// multiplyFloats({values: Uint8Array, type: 'F32' | 'F16' | 'BF16', x, leading, y}): y = rows of values times x.
void multiply_floats(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const Napi::Object spec = to_object(info[0], "spec");
    const auto values = elements<Napi::Uint8Array>(spec, "values", napi_uint8_array);
    const FloatType type = float_type(to_string(property(spec, "type"), "type"));
    const auto x = doubles(spec, "x");
    const auto y = doubles(spec, "y");
    const size_t bytes = type == FloatType::f32 ? 4 : 2;
    check_count("values", values.count, bytes * x.count * y.count);
    if (reinterpret_cast<uintptr_t>(values.data) % bytes != 0) {
      throw Error("INVALID_OPTION", "Native argument values must begin at a multiple of an element's size.");
    }
    const Inputs inputs{x.data, x.count, leading_of(spec, x.count)};
    padding::product_kernels().multiply_floats(values.data, type, y.count, inputs, y.data);
  });
}

// multiplyRows({codes: Int32Array, bits, scales, zeros, groupOf, x, leading, y}): the same with codes, [outputs,
// groups].
void multiply_rows(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const Napi::Object spec = to_object(info[0], "spec");
    const auto codes = codes_of(spec);
    const int bits = bits_of(spec);
    const auto x = doubles(spec, "x");
    const auto y = doubles(spec, "y");
    const size_t per_word = 32 / static_cast<size_t>(bits);
    check_count("codes", codes.count, y.count * ((x.count + per_word - 1) / per_word));
    const Inputs inputs{x.data, x.count, leading_of(spec, x.count)};
    padding::product_kernels().multiply_rows(reinterpret_cast<const uint32_t*>(codes.data), bits, y.count,
                                             grid_of(spec, y.count, x.count), inputs, y.data);
  });
}

// addColumns({codes: Int32Array, order: 'gptq' | 'awq', bits, scales, zeros, groupOf, x, y}): y += the inputs that are
// here.
void add_columns(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const Napi::Object spec = to_object(info[0], "spec");
    const auto codes = codes_of(spec);
    const int bits = bits_of(spec);
    const auto x = doubles(spec, "x");
    const auto y = doubles(spec, "y");
    const Grid grid = grid_of(spec, y.count, x.count);
    const auto* words = reinterpret_cast<const uint32_t*>(codes.data);
    const size_t per_word = 32 / static_cast<size_t>(bits);
    check_count("codes", codes.count * per_word, x.count * y.count);
    const std::string order = to_string(property(spec, "order"), "order");
    if (order != "gptq" && order != "awq") {
      throw Error("INVALID_OPTION", "Native argument order must be gptq or awq, not " + order + ".");
    }
    if (order == "awq") {
      if (bits != 4) throw Error("INVALID_OPTION", "Native argument bits must be 4 for the order awq.");
      check_count("y", y.count, y.count / 8 * 8);
      padding::product_kernels().add_awq(words, x.count, y.count, grid, x.data, y.data);
    } else {
      check_count("x", x.count, x.count / per_word * per_word);
      padding::product_kernels().add_gptq(words, bits, x.count / per_word, y.count, grid, x.data, y.data);
    }
  });
}

}  // namespace

void init_products(Napi::Env env, Napi::Object exports) {
  exports["multiplyFloats"] = Napi::Function::New(env, multiply_floats, "multiplyFloats");
  exports["multiplyRows"] = Napi::Function::New(env, multiply_rows, "multiplyRows");
  exports["addColumns"] = Napi::Function::New(env, add_columns, "addColumns");
}

}  // namespace billfish
