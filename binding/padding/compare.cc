#include "padding/compare.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "checkpoint/channels.h"
#include "checkpoint/readers.h"
#include "checkpoint/tensor_check.h"
#include "engine/canonical.h"
#include "engine/row_slabs.h"

namespace billfish {
namespace {

// Thrown by whichever thread finds one.
struct Difference {
  std::string text;
};

// One of the two forms of a linear.
template <class Spec>
struct Form {
  const Spec& spec;
  const MappedFiles& files;

  [[noreturn]] void differ(const TensorRef& tensor, const std::string& how) const {
    throw Difference{tensor_text(tensor, files) + " " + how};
  }
};

std::string output_text(int64_t row) { return "output " + std::to_string(row); }

std::string place_text(int64_t row, const char* what, int64_t column) {
  return output_text(row) + ", " + what + " " + std::to_string(column);
}

// The bits of a stored number: two that differ may look the same as decimals.
std::string bits_text(const uint8_t* bytes, size_t size) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "0x";
  for (size_t i = size; i-- > 0;) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

bool all_zero(const uint8_t* bytes, size_t count) {
  return std::all_of(bytes, bytes + count, [](uint8_t byte) { return byte == 0; });
}

// Calls compare(first, count) for slabs that cover all rows, on all threads, and release(first, count) for the rows of
// every band of them, so that no more pages than a band's stay in memory.
template <class Compare, class Release>
void for_each_band(int64_t rows, int64_t row_bytes, const Control& control, Compare compare, Release release) {
  constexpr int64_t band_bytes = int64_t{16} << 20;
  constexpr int64_t slab = Backend::row_slab;
  const int64_t band = std::max(slab, band_bytes / row_bytes / slab * slab);
  for (int64_t first = 0; first < rows; first += band) {
    const int64_t count = std::min(band, rows - first);
    for_each_slab(count, [&](int64_t begin, int64_t length) {
      control.check();
      compare(first + begin, length);
    });
    release(first, count);
  }
}

// Drops the pages of rows of a row-major tensor.
void release_rows(const TensorRef& tensor, const MappedFiles& files, int64_t row_bytes, int64_t first, int64_t count) {
  files[tensor.file]->release(tensor.offset + static_cast<uint64_t>(first * row_bytes),
                              static_cast<uint64_t>(count * row_bytes));
}

template <class Spec>
void compare_bias(const Form<Spec>& original, const Form<Spec>& padded, const Channels& outputs) {
  if (original.spec.bias.has_value() != padded.spec.bias.has_value()) {
    const Form<Spec>& with = padded.spec.bias ? padded : original;
    with.differ(*with.spec.bias, "is in one of them only");
  }
  if (!padded.spec.bias) return;
  const std::vector<float> before = read_vector(*original.spec.bias, original.spec.out, original.files);
  const std::vector<float> after = read_vector(*padded.spec.bias, padded.spec.out, padded.files);
  const auto check = [&](int64_t row, float expected) {
    if (float_to_bits(after[row]) == float_to_bits(expected)) return;
    padded.differ(*padded.spec.bias, "has " + std::to_string(after[row]) + " for " + output_text(row) +
                                         ", which must be " + std::to_string(expected));
  };
  outputs.for_each(
      0, padded.spec.out,
      [&](int64_t row, int64_t original_row, int64_t length) {
        for (int64_t i = 0; i < length; ++i) check(row + i, before[original_row + i]);
      },
      [&](int64_t row, int64_t length) {
        for (int64_t i = 0; i < length; ++i) check(row + i, 0.0f);
      });
}

// --- Matrices.

class MatrixComparison {
 public:
  MatrixComparison(const Form<MatrixSpec>& original, const Form<MatrixSpec>& padded, const PaddedLinear& linear)
      : original_(original),
        padded_(padded),
        original_source_(original.spec, original.files),
        padded_source_(padded.spec, padded.files),
        outputs_(linear.outputs, original.spec.out, padded.spec.out, padded.spec.name, "outputs"),
        inputs_(linear.inputs, original.spec.in, padded.spec.in, padded.spec.name, "inputs"),
        size_(byte_size(padded.spec.weight.dtype)) {
    if (original.spec.weight.dtype != padded.spec.weight.dtype) {
      padded.differ(padded.spec.weight, "has numbers of another type");
    }
  }

  void run(const Control& control) const {
    compare_bias(original_, padded_, outputs_);
    const int64_t row_bytes = padded_.spec.in * size_, original_row_bytes = original_.spec.in * size_;
    for_each_band(
        padded_.spec.out, row_bytes, control, [&](int64_t first, int64_t count) { compare_rows(first, count); },
        [&](int64_t first, int64_t count) {
          release_rows(padded_.spec.weight, padded_.files, row_bytes, first, count);
          outputs_.for_each(
              first, count,
              [&](int64_t, int64_t original_row, int64_t length) {
                release_rows(original_.spec.weight, original_.files, original_row_bytes, original_row, length);
              },
              [](int64_t, int64_t) {});
        });
  }

 private:
  void compare_rows(int64_t first, int64_t count) const {
    thread_local std::vector<uint8_t> before, after;
    after.resize(count * padded_.spec.in * size_);
    padded_source_.read(first, count, after.data());
    const auto row_at = [&](int64_t row) { return after.data() + (row - first) * padded_.spec.in * size_; };
    outputs_.for_each(
        first, count,
        [&](int64_t row, int64_t original_row, int64_t length) {
          before.resize(length * original_.spec.in * size_);
          original_source_.read(original_row, length, before.data());
          for (int64_t i = 0; i < length; ++i) {
            compare_row(before.data() + i * original_.spec.in * size_, row_at(row + i), row + i);
          }
        },
        [&](int64_t row, int64_t length) {
          for (int64_t i = 0; i < length; ++i) check_zeros(row_at(row + i), row + i, 0, padded_.spec.in);
        });
  }

  void compare_row(const uint8_t* before, const uint8_t* after, int64_t row) const {
    inputs_.for_each(
        0, padded_.spec.in,
        [&](int64_t input, int64_t original_input, int64_t length) {
          const uint8_t* expected = before + original_input * size_;
          const uint8_t* actual = after + input * size_;
          if (std::memcmp(expected, actual, length * size_) == 0) return;
          int64_t i = 0;
          while (std::memcmp(expected + i * size_, actual + i * size_, size_) == 0) ++i;
          differ(row, input + i, actual + i * size_, bits_text(expected + i * size_, size_));
        },
        [&](int64_t input, int64_t length) { check_zeros(after, row, input, length); });
  }

  void check_zeros(const uint8_t* after, int64_t row, int64_t input, int64_t length) const {
    if (all_zero(after + input * size_, length * size_)) return;
    while (all_zero(after + input * size_, size_)) ++input;
    differ(row, input, after + input * size_, "0");
  }

  [[noreturn]] void differ(int64_t row, int64_t input, const uint8_t* actual, const std::string& expected) const {
    padded_.differ(padded_.spec.weight, "has the bits " + bits_text(actual, size_) + " for " +
                                            place_text(row, "input", input) + ", which must be " + expected);
  }

  const Form<MatrixSpec>&original_, &padded_;
  const MatrixSource original_source_, padded_source_;
  const Channels outputs_, inputs_;
  const int64_t size_;  // of a number
};

// --- Quantized linears.

// The spec with which a reader yields the zero points, also where a symmetric scheme leaves them unread.
QuantizedSpec with_zeros(QuantizedSpec spec) {
  if (spec.zeros) spec.symmetric = false;
  return spec;
}

// Neighboring canonical inputs of the padded linear: the original's from `from` on, or added ones.
struct InputRun {
  static constexpr int64_t added = -1;
  int64_t at, from, count;
};

// Where every input stands in canonical rows.
std::vector<int64_t> canonical_places(const CanonicalShape& shape) {
  std::vector<int64_t> places(shape.in);
  for (int64_t i = 0; i < shape.in; ++i) places[shape.order.empty() ? i : shape.order[i]] = i;
  return places;
}

class QuantizedComparison {
 public:
  QuantizedComparison(const Form<QuantizedSpec>& original, const Form<QuantizedSpec>& padded,
                      const PaddedLinear& linear)
      : original_(original),
        padded_(padded),
        original_source_(open_quantized(with_zeros(original.spec), original.files)),
        padded_source_(open_quantized(with_zeros(padded.spec), padded.files)),
        before_(original_source_->shape()),
        after_(padded_source_->shape()),
        outputs_(linear.outputs, before_.out, after_.out, after_.name, "outputs") {
    compare_schemes();
    map_inputs(linear.inputs);
    if (padded.spec.scale_rows > 1) original_source_->read(before_.out - 1, 1, last_);
  }

  void run(const Control& control) const {
    compare_bias(original_, padded_, outputs_);
    const Format format = padded_.spec.format;
    const bool row_major = format == Format::compressed_tensors || format == Format::fp8 || format == Format::fp4;
    const auto row_bytes = static_cast<int64_t>(padded_.spec.codes.bytes) / after_.out;
    for_each_band(
        after_.out, row_bytes, control, [&](int64_t first, int64_t count) { compare_rows(first, count); },
        [&](int64_t first, int64_t count) {
          if (row_major) release_rows(padded_.spec.codes, padded_.files, row_bytes, first, count);
        });
    // Last: where the zero points decide it, the one that differs has been named.
    if (original_.spec.symmetric != padded_.spec.symmetric) {
      padded_.differ(*padded_.spec.zeros, "makes the scheme " + scheme_text(padded_.spec) + ", but it must be " +
                                              scheme_text(original_.spec));
    }
  }

 private:
  void compare_schemes() const {
    if (before_.bits != after_.bits || before_.codes != after_.codes) {
      padded_.differ(padded_.spec.codes, "has codes of another kind");
    }
    if (before_.scale_type != after_.scale_type) padded_.differ(padded_.spec.scales, "has numbers of another type");
    if (before_.has_output_scales != after_.has_output_scales) {
      padded_.differ(padded_.spec.scales, "has a scale for the whole weight in one of them only");
    }
    if (original_.spec.zeros.has_value() != padded_.spec.zeros.has_value()) {
      const Form<QuantizedSpec>& with = padded_.spec.zeros ? padded_ : original_;
      with.differ(*with.spec.zeros, "is in one of them only");
    }
  }

  static std::string scheme_text(const QuantizedSpec& spec) { return spec.symmetric ? "symmetric" : "asymmetric"; }

  void map_inputs(const std::vector<ChannelRun>& runs) {
    const Channels inputs(runs, before_.in, after_.in, after_.name, "inputs");
    const std::vector<int64_t> places_before = canonical_places(before_), places_after = canonical_places(after_);
    std::vector<int64_t> from(after_.in, InputRun::added);
    inputs.for_each(
        0, after_.in,
        [&](int64_t input, int64_t original_input, int64_t length) {
          for (int64_t i = 0; i < length; ++i) {
            const int64_t place = places_after[input + i], original_place = places_before[original_input + i];
            from[place] = original_place;
            const int64_t group = place / after_.group_size, wanted = original_place / before_.group_size;
            if (group == wanted) continue;
            const TensorRef& tensor = padded_.spec.group_index ? *padded_.spec.group_index : padded_.spec.codes;
            padded_.differ(tensor, "puts input " + std::to_string(input + i) + " into group " + std::to_string(group) +
                                       ", but it must be in group " + std::to_string(wanted));
          }
        },
        [](int64_t, int64_t) {});
    for (int64_t at = 0; at < after_.in; ++at) {
      const bool is_added = from[at] == InputRun::added;
      const bool continues =
          !input_runs_.empty() && (is_added ? input_runs_.back().from == InputRun::added
                                            : input_runs_.back().from != InputRun::added &&
                                                  from[at] == input_runs_.back().from + input_runs_.back().count);
      if (continues) {
        ++input_runs_.back().count;
      } else {
        input_runs_.push_back({at, from[at], 1});
      }
    }
  }

  void compare_rows(int64_t first, int64_t count) const {
    thread_local CanonicalRows before, after;
    padded_source_->read(first, count, after);
    outputs_.for_each(
        first, count,
        [&](int64_t row, int64_t original_row, int64_t length) {
          original_source_->read(original_row, length, before);
          for (int64_t i = 0; i < length; ++i) compare_row(before, i, after, row - first + i);
        },
        [&](int64_t row, int64_t length) {
          for (int64_t i = 0; i < length; ++i) {
            for (int64_t group = 0; group < after_.groups(); ++group) check_added_group(after, row - first + i, group);
            check_added_codes(after, row - first + i, 0, after_.in);
          }
        });
  }

  void compare_row(const CanonicalRows& before, int64_t original_row, const CanonicalRows& after, int64_t row) const {
    const int64_t groups = before_.groups();
    for (int64_t group = 0; group < groups; ++group) {
      const uint8_t* expected = scale(before, before_, original_row, group);
      const uint8_t* actual = scale(after, after_, row, group);
      if (std::memcmp(expected, actual, byte_size(after_.scale_type)) != 0) {
        differ_in_scale(after, row, group, bits_text(expected, byte_size(after_.scale_type)));
      }
      if (!after_.has_zero_points) continue;
      const uint8_t zero = before.zeros[original_row * groups + group];
      if (zero != after.zeros[row * after_.groups() + group]) differ_in_zero(after, row, group, zero);
    }
    for (int64_t group = groups; group < after_.groups(); ++group) check_added_group(after, row, group);
    if (after_.has_output_scales) compare_output_scale(before.output_scales[original_row], after, row);
    const uint32_t* expected = &before.codes[original_row * before_.words_per_row()];
    for (const InputRun& run : input_runs_) {
      if (run.from == InputRun::added) {
        check_added_codes(after, row, run.at, run.count);
      } else {
        compare_codes(expected, run, after, row);
      }
    }
  }

  void compare_output_scale(float expected, const CanonicalRows& after, int64_t row) const {
    const float actual = after.output_scales[row];
    if (float_to_bits(actual) == float_to_bits(expected)) return;
    padded_.differ(padded_.spec.scales, "is scaled by " + std::to_string(actual) + " for " +
                                            output_text(after.first + row) + ", which must be " +
                                            std::to_string(expected));
  }

  void compare_codes(const uint32_t* expected, const InputRun& run, const CanonicalRows& after, int64_t row) const {
    const uint32_t* actual = &after.codes[row * after_.words_per_row()];
    const int64_t per_word = 32 / after_.bits;
    int64_t done = 0;
    if (run.at % per_word == 0 && run.from % per_word == 0) {
      const int64_t words = run.count / per_word;
      if (std::memcmp(actual + run.at / per_word, expected + run.from / per_word, words * 4) == 0) {
        done = words * per_word;
      }
    }
    for (int64_t i = done; i < run.count; ++i) {
      const uint32_t code = code_at(expected, run.from + i);
      if (code != code_at(actual, run.at + i)) differ_in_code(after, row, run.at + i, code);
    }
  }

  // Of an added output, or behind the original's groups. Outputs that share scales with the original's last one have
  // those, and are 0 by their codes.
  void check_added_group(const CanonicalRows& after, int64_t row, int64_t group) const {
    const auto size = static_cast<int64_t>(byte_size(after_.scale_type));
    const int64_t rows = padded_.spec.scale_rows;
    const bool is_shared =
        rows > 1 && group < before_.groups() && (after.first + row) / rows <= (before_.out - 1) / rows;
    const uint8_t* const actual = scale(after, after_, row, group);
    if (is_shared ? std::memcmp(actual, scale(last_, before_, 0, group), size) != 0 : !all_zero(actual, size)) {
      differ_in_scale(after, row, group, is_shared ? bits_text(scale(last_, before_, 0, group), size) : "0");
    }
    if (!after_.has_zero_points || !original_.spec.symmetric) return;  // else its codes say what it must be
    if (after.zeros[row * after_.groups() + group] != middle()) differ_in_zero(after, row, group, middle());
  }

  void check_added_codes(const CanonicalRows& after, int64_t row, int64_t at, int64_t count) const {
    const uint32_t* codes = &after.codes[row * after_.words_per_row()];
    for (int64_t i = at; i < at + count; ++i) {
      const uint32_t zero = is_float()                 ? 0
                            : original_.spec.symmetric ? middle()
                                                       : after.zeros[row * after_.groups() + i / after_.group_size];
      if (code_at(codes, i) != zero) differ_in_code(after, row, i, zero);
    }
  }

  bool is_float() const { return after_.codes != CodeType::integer; }

  uint8_t middle() const { return static_cast<uint8_t>(1u << (after_.bits - 1)); }

  uint32_t code_at(const uint32_t* codes, int64_t i) const {
    const int64_t per_word = 32 / after_.bits;
    return codes[i / per_word] >> (i % per_word * after_.bits) & ((1u << after_.bits) - 1);
  }

  static const uint8_t* scale(const CanonicalRows& rows, const CanonicalShape& shape, int64_t row, int64_t group) {
    return &rows.scales[(row * shape.groups() + group) * byte_size(shape.scale_type)];
  }

  [[noreturn]] void differ_in_scale(const CanonicalRows& after, int64_t row, int64_t group,
                                    const std::string& expected) const {
    const std::string actual = bits_text(scale(after, after_, row, group), byte_size(after_.scale_type));
    padded_.differ(padded_.spec.scales, "has a scale of the bits " + actual + " for " +
                                            place_text(after.first + row, "group", group) + ", which must be " +
                                            expected);
  }

  [[noreturn]] void differ_in_zero(const CanonicalRows& after, int64_t row, int64_t group, uint8_t expected) const {
    const uint8_t actual = after.zeros[row * after_.groups() + group];
    padded_.differ(*padded_.spec.zeros, "has the zero point " + std::to_string(actual) + " for " +
                                            place_text(after.first + row, "group", group) + ", which must be " +
                                            std::to_string(expected));
  }

  [[noreturn]] void differ_in_code(const CanonicalRows& after, int64_t row, int64_t place, uint32_t expected) const {
    const uint32_t actual = code_at(&after.codes[row * after_.words_per_row()], place);
    const int64_t input = after_.order.empty() ? place : after_.order[place];
    padded_.differ(padded_.spec.codes, "has the code " + std::to_string(actual) + " for " +
                                           place_text(after.first + row, "input", input) + ", which must be " +
                                           std::to_string(expected));
  }

  const Form<QuantizedSpec>&original_, &padded_;
  const std::unique_ptr<CanonicalSource> original_source_, padded_source_;
  const CanonicalShape &before_, &after_;
  const Channels outputs_;
  std::vector<InputRun> input_runs_;
  CanonicalRows last_;  // the original's last output, where outputs share scales
};

template <class Comparison, class Spec>
void compare_as(const PaddedLinear& linear, const MappedFiles& original_files, const MappedFiles& padded_files,
                const Control& control) {
  const auto* original = std::get_if<Spec>(&linear.original);
  const auto* padded = std::get_if<Spec>(&linear.padded);
  if (!original || !padded) return;
  const Form<Spec> before{*original, original_files}, after{*padded, padded_files};
  Comparison(before, after, linear).run(control);
  release_source(*original, original_files);
  release_source(*padded, padded_files);
}

}  // namespace

std::optional<std::string> find_difference(const PaddedLinear& linear, const MappedFiles& original_files,
                                           const MappedFiles& padded_files, const Control& control) {
  std::optional<std::string> difference;
  try {
    if (linear.original.index() != linear.padded.index())
      throw Difference{"One of them is quantized, the other is not"};
    compare_as<MatrixComparison, MatrixSpec>(linear, original_files, padded_files, control);
    compare_as<QuantizedComparison, QuantizedSpec>(linear, original_files, padded_files, control);
  } catch (const Difference& found) {
    difference = found.text;
  } catch (const Error&) {
    check_pages(original_files);  // what was wrong with the numbers may be that they were not there
    check_pages(padded_files);
    throw;
  }
  check_pages(original_files);
  check_pages(padded_files);
  return difference;
}

}  // namespace billfish
