// The fields of an operator, as its declaration lists them (operators.h): what its operands are called, what it does to
// them, and how to reach them. Parsing, validation, the arena planner and the binding to memory all go over this list.
#pragma once
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "engine/operands.h"

namespace billfish {

// What an operator does to a value.
enum class Role {
  read,             // leaves it as it is
  update,           // changes it in place
  write,            // writes it whole, for the first time
  write_or_update,  // the same; but it may be a value that the operator reads, which is then changed in place
  consume,          // reads it and leaves nothing useful there
};

enum class FieldKind { value, weight, cache_layer, state_layer, first_logit_row, attribute, list };

enum class WeightUse { vector, table, linear };  // table: an unquantized matrix; linear: any matrix, experts' too

template <FieldKind field_kind, class Owner, class Content>
struct Field {
  static constexpr FieldKind kind = field_kind;
  using Member = Content Owner::*;
  const char* name;  // in JavaScript
  Member member;
  bool optional = false;
  Role role = Role::read;
  WeightUse use = WeightUse::vector;
};

template <class FieldReference>
constexpr FieldKind kind_of = std::remove_cvref_t<FieldReference>::kind;

namespace operators {

template <class Owner, class Content>
using ValueField = Field<FieldKind::value, Owner, Content>;
template <class Owner, class Content>
using WeightField = Field<FieldKind::weight, Owner, Content>;

template <class Owner, class Content>
constexpr ValueField<Owner, Content> read(const char* name, Content Owner::*member) {
  return {name, member, false, Role::read};
}
template <class Owner, class Content>
constexpr ValueField<Owner, Content> update(const char* name, Content Owner::*member) {
  return {name, member, false, Role::update};
}
template <class Owner, class Content>
constexpr ValueField<Owner, Content> write(const char* name, Content Owner::*member) {
  return {name, member, false, Role::write};
}
template <class Owner, class Content>
constexpr ValueField<Owner, Content> optional_write(const char* name, Content Owner::*member) {
  return {name, member, true, Role::write};
}
template <class Owner, class Content>
constexpr ValueField<Owner, Content> write_or_update(const char* name, Content Owner::*member) {
  return {name, member, false, Role::write_or_update};
}
template <class Owner, class Content>
constexpr ValueField<Owner, Content> consume(const char* name, Content Owner::*member) {
  return {name, member, false, Role::consume};
}
template <class Owner, class Content>
constexpr WeightField<Owner, Content> weight(const char* name, Content Owner::*member, WeightUse use) {
  return {name, member, false, Role::read, use};
}
template <class Owner, class Content>
constexpr WeightField<Owner, Content> optional_weight(const char* name, Content Owner::*member, WeightUse use) {
  return {name, member, true, Role::read, use};
}
template <class Owner, class Content>
constexpr Field<FieldKind::cache_layer, Owner, Content> cache_layer(const char* name, Content Owner::*member) {
  return {name, member};
}
template <class Owner, class Content>
constexpr Field<FieldKind::state_layer, Owner, Content> state_layer(const char* name, Content Owner::*member) {
  return {name, member};
}
template <class Owner, class Content>
constexpr Field<FieldKind::first_logit_row, Owner, Content> first_logit_row(Content Owner::*member) {
  return {"", member};
}
template <class Owner, class Content>
constexpr Field<FieldKind::attribute, Owner, Content> attribute(const char* name, Content Owner::*member) {
  return {name, member};
}
template <class Owner, class Content>
constexpr Field<FieldKind::list, Owner, Content> list(const char* name, Content Owner::*member) {
  return {name, member};
}

}  // namespace operators

// Calls visit(field, content) for every field of an operator or of an element of its lists.
template <class Owner, class Visit>
constexpr void for_each_field(Owner& owner, Visit visit) {
  std::apply([&](const auto&... field) { (visit(field, owner.*field.member), ...); },
             std::remove_const_t<Owner>::fields());
}

// Calls visit(field, content in `from`, content in `to`) for every field: two forms of one operator.
template <class From, class To, class Visit>
constexpr void for_each_field(From& from, To& to, Visit visit) {
  constexpr auto from_fields = std::remove_const_t<From>::fields();
  constexpr auto to_fields = std::remove_const_t<To>::fields();
  [&]<size_t... i>(std::index_sequence<i...>) {
    (visit(std::get<i>(from_fields), from.*std::get<i>(from_fields).member, to.*std::get<i>(to_fields).member), ...);
  }
  (std::make_index_sequence<std::tuple_size_v<decltype(from_fields)>>());
}

// Whether an optional operand is there.
inline bool is_given(int32_t id) { return id >= 0; }
inline bool is_given(const Tensor& tensor) { return tensor.data != nullptr; }
inline bool is_given(const Weight* weight) { return weight != nullptr; }

// Calls visit(field, operand) for every value and weight, in the order of the declaration, those in lists among them.
// Optional ones that are not there are left out.
template <class Owner, class Visit>
constexpr void for_each_operand(const Owner& owner, Visit&& visit) {
  for_each_field(owner, [&](const auto& field, const auto& content) {
    constexpr FieldKind kind = kind_of<decltype(field)>;
    if constexpr (kind == FieldKind::list) {
      for (const auto& element : content) for_each_operand(element, visit);
    } else if constexpr (kind == FieldKind::value || kind == FieldKind::weight) {
      if (!field.optional || is_given(content)) visit(field, content);
    }
  });
}

}  // namespace billfish
