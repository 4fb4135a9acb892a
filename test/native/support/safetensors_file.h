// Fixture files for native tests: safetensors files with their headers, and files written to a temporary directory.
#pragma once
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "support/json.h"

namespace fixtures {

inline std::filesystem::path directory() {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "fixtures";
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
}

// The tensors of one or more safetensors files. Types that billfish has no DType for (F64) get DType::i64: eight bytes.
class SafetensorsFiles {
 public:
  explicit SafetensorsFiles(const std::vector<std::filesystem::path>& paths) {
    for (const auto& path : paths) add(path);
  }

  const billfish::MappedFiles& files() const { return files_; }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  const std::map<std::string, billfish::TensorRef>& tensors() const { return tensors_; }
  const billfish::TensorRef& tensor(const std::string& name) const { return tensors_.at(name); }

  // The tensor's elements, copied as they are stored.
  template <class Number>
  std::vector<Number> read(const std::string& name) const {
    const billfish::TensorRef& tensor = tensors_.at(name);
    std::vector<Number> values(tensor.bytes / sizeof(Number));
    std::memcpy(values.data(), files_[tensor.file]->at(tensor.offset, tensor.bytes, name), tensor.bytes);
    return values;
  }

 private:
  void add(const std::filesystem::path& path) {
    const auto file = std::make_shared<billfish::MappedFile>(path.string());
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file->at(0, 8, "header"), 8);
    const std::string header(reinterpret_cast<const char*>(file->at(8, header_bytes, "header")), header_bytes);
    for (const auto& [name, entry] : parse_json(header).members) {
      if (name == "__metadata__") continue;
      billfish::TensorRef tensor;
      tensor.name = name;
      tensor.file = static_cast<int>(files_.size());
      tensor.dtype = type_of(entry.at("dtype").text);
      for (const Json& dimension : entry.at("shape").items)
        tensor.shape.push_back(static_cast<int64_t>(dimension.number));
      const auto begin = static_cast<uint64_t>(entry.at("data_offsets").items[0].number);
      tensor.offset = 8 + header_bytes + begin;
      tensor.bytes = static_cast<uint64_t>(entry.at("data_offsets").items[1].number) - begin;
      tensors_[name] = tensor;
    }
    files_.push_back(file);
  }

  static billfish::DType type_of(const std::string& name) {
    if (name == "F32") return billfish::DType::f32;
    if (name == "F16") return billfish::DType::f16;
    if (name == "BF16") return billfish::DType::bf16;
    if (name == "I32") return billfish::DType::i32;
    if (name == "F8_E4M3") return billfish::DType::f8_e4m3;
    return billfish::DType::i64;
  }

  billfish::MappedFiles files_;
  std::map<std::string, billfish::TensorRef> tensors_;
};

// A file in the temporary directory that tensors are written into one after another; removed at the end.
class TemporaryFile {
 public:
  TemporaryFile() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("billfish-native-test-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::ofstream(path_, std::ios::binary) << '#';  // so that no tensor is aligned
    size_ = 1;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }

  const std::filesystem::path& path() const { return path_; }

  template <class Number>
  billfish::TensorRef write(const std::string& name, billfish::DType type, std::vector<int64_t> shape,
                            const std::vector<Number>& values) {
    const uint64_t bytes = values.size() * sizeof(Number);
    std::ofstream stream(path_, std::ios::binary | std::ios::app);
    stream.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(bytes));
    billfish::TensorRef tensor{name, 0, type, std::move(shape), size_, bytes};
    size_ += bytes;
    return tensor;
  }

  billfish::MappedFiles map() const { return {std::make_shared<billfish::MappedFile>(path_.string())}; }

 private:
  std::filesystem::path path_;
  uint64_t size_ = 0;
};

}  // namespace fixtures
