// Enough JSON to read the fixtures: safetensors headers, configs, golden numbers. No \u escapes; throws on what it
// cannot read.
#pragma once
#include <cctype>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace fixtures {

struct Json {
  double number = 0;  // also true and false, as 1 and 0
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> members;
  bool is_null = false;

  bool has(const std::string& name) const { return members.count(name) != 0 && !members.at(name).is_null; }
  const Json& at(const std::string& name) const { return members.at(name); }
};

class JsonParser {
 public:
  explicit JsonParser(const std::string& text) : text_(text) {}

  Json parse() {
    Json value;
    switch (peek()) {
      case '{':
        for (char end = take(); end != '}'; end = take()) {
          if (peek() == '}') continue;
          const std::string name = string();
          take();  // the colon
          value.members[name] = parse();
        }
        break;
      case '[':
        for (char end = take(); end != ']'; end = take()) {
          if (peek() != ']') value.items.push_back(parse());
        }
        break;
      case '"':
        value.text = string();
        break;
      case 't':
      case 'f':
      case 'n':
        value.number = text_[at_] == 't';
        value.is_null = text_[at_] == 'n';
        while (std::isalpha(static_cast<unsigned char>(text_.at(at_)))) ++at_;
        break;
      default: {
        char* end = nullptr;
        value.number = std::strtod(text_.c_str() + at_, &end);
        const size_t next = end - text_.c_str();
        if (next == at_) throw std::runtime_error("bad JSON at " + std::to_string(at_));
        at_ = next;
      }
    }
    return value;
  }

 private:
  char peek() {
    while (std::isspace(static_cast<unsigned char>(text_.at(at_)))) ++at_;
    return text_.at(at_);
  }
  char take() {
    peek();
    return text_.at(at_++);
  }
  std::string string() {
    std::string value;
    if (take() != '"') throw std::runtime_error("bad JSON string at " + std::to_string(at_));
    while (text_.at(at_) != '"') {
      if (text_[at_] == '\\') ++at_;
      value += text_.at(at_++);
    }
    ++at_;
    return value;
  }

  const std::string& text_;
  size_t at_ = 0;
};

inline Json parse_json(const std::string& text) { return JsonParser(text).parse(); }

}  // namespace fixtures
