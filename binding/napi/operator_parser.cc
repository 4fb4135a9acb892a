#include "model_spec.h"

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "convert.h"

namespace billfish {
namespace {

// Each kind of content that a field may have. Numbers of operands and attributes are never negative.

void parse(const Napi::Value& value, const char* name, float& content) {
  content = static_cast<float>(to_number(value, name));
}

void parse(const Napi::Value& value, const char* name, int32_t& content) {
  content = static_cast<int32_t>(to_integer(value, name, 0, int32_max));
}

void parse(const Napi::Value& value, const char* name, int64_t& content) {
  content = to_integer(value, name, 0, int32_max);
}

template <class Owner>
void parse_fields(const Napi::Object& object, Owner& owner);

template <class Element>
void parse(const Napi::Value& value, const char* name, std::vector<Element>& content) {
  const Napi::Array array = to_array(value, name);
  content.resize(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) parse_fields(to_object(array.Get(i), name), content[i]);
}

// Throws for properties that no field is called like; undefined counts as missing.
template <class Owner>
void refuse_others(const Napi::Object& object, Owner& owner) {
  const Napi::Array names = object.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).As<Napi::String>().Utf8Value();
    bool is_known = name == "op" || !has(object, name.c_str());
    for_each_field(owner, [&](const auto& field, auto&) { is_known = is_known || name == field.name; });
    if (!is_known) throw Error("INTERNAL", "there is no field '" + name + "'");
  }
}

template <class Owner>
void parse_fields(const Napi::Object& object, Owner& owner) {
  refuse_others(object, owner);
  for_each_field(owner, [&](const auto& field, auto& content) {
    constexpr FieldKind kind = kind_of<decltype(field)>;
    if constexpr (kind == FieldKind::first_logit_row) {
      return;  // no number of the program's
    } else {
      if (has(object, field.name)) {
        parse(object.Get(field.name), field.name, content);
      } else if constexpr (kind == FieldKind::value || kind == FieldKind::weight) {
        if (!field.optional) throw Error("INTERNAL", std::string("field '") + field.name + "' is missing");
        content = -1;
      } else {
        throw Error("INTERNAL", std::string("field '") + field.name + "' is missing");
      }
    }
  });
}

// The alternative of this name.
template <class... Operators>
std::variant<Operators...> parse_alternative(const std::string& name, const Napi::Object& object,
                                             const std::variant<Operators...>& /*types*/) {
  std::variant<Operators...> parsed;
  const auto parse_if_named = [&]<class Op>(Op op) {
    if (name != Op::name) return false;
    parse_fields(object, op);
    parsed = std::move(op);
    return true;
  };
  if (!(parse_if_named(Operators{}) || ...)) throw Error("INTERNAL", "there is no such operator");
  return parsed;
}

}  // namespace

Operator parse_operator(const Napi::Object& object) {
  const Napi::HandleScope scope(object.Env());
  const std::string name = to_string(property(object, "op"), "op");
  try {
    return parse_alternative(name, object, Operator());
  } catch (const Error& error) {
    throw Error("INTERNAL", "Operator '" + name + "' of a program: " + error.what() +
                                ". This is a mistake in the model's definition, please report it.");
  }
}

}  // namespace billfish
