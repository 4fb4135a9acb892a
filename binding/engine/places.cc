#include "engine/places.h"

#include <algorithm>

namespace billfish {
namespace {

// First fit over the free ranges; neighbors that are free together join; it grows at its end.
class Arena {
 public:
  int64_t size() const { return size_; }

  int64_t take(int64_t width) {
    const auto fitting =
        std::find_if(free_.begin(), free_.end(), [&](const Range& range) { return range.end - range.begin >= width; });
    if (fitting != free_.end()) {
      const int64_t begin = fitting->begin;
      fitting->begin += width;
      if (fitting->begin == fitting->end) free_.erase(fitting);
      return begin;
    }
    int64_t begin = size_;
    if (!free_.empty() && free_.back().end == size_) {
      begin = free_.back().begin;
      free_.pop_back();
    }
    size_ = begin + width;
    return begin;
  }

  void give(int64_t begin, int64_t width) {
    const int64_t end = begin + width;
    const auto behind =
        std::find_if(free_.begin(), free_.end(), [&](const Range& range) { return range.begin >= end; });
    const bool joins_before = behind != free_.begin() && (behind - 1)->end == begin;
    const bool joins_behind = behind != free_.end() && behind->begin == end;
    if (joins_before) {
      (behind - 1)->end = joins_behind ? behind->end : end;
      if (joins_behind) free_.erase(behind);
    } else if (joins_behind) {
      behind->begin = begin;
    } else {
      free_.insert(behind, {begin, end});
    }
  }

 private:
  struct Range {
    int64_t begin, end;
  };
  int64_t size_ = 0;
  std::vector<Range> free_;  // in order, none of them empty
};

}  // namespace

Places place_values(const Program& program, const ValueBytes& bytes) {
  const size_t count = program.operators.size();
  const auto base = [&](ValueId id) {
    const ValueId viewed = program.values[id].view_of;
    return viewed == no_value ? id : viewed;
  };
  std::vector<size_t> last_use(program.values.size(), 0);
  for (size_t i = 0; i < count; ++i) {
    for_each_value(program.operators[i], [&](ValueId id, bool) { last_use[base(id)] = i; });
  }
  if (program.output != no_value) last_use[base(program.output)] = count;

  Places places;
  places.of_value.resize(program.values.size());
  Arena tokens, logits;
  const auto arena_of = [&](ValueId id) -> Arena& {
    return program.values[id].rows == RowKind::tokens ? tokens : logits;
  };
  const auto place = [&](ValueId id) {
    const Value& value = program.values[id];
    const int64_t width = value.width * bytes.of(value.kind);
    const int64_t stride = (width + row_alignment - 1) / row_alignment * row_alignment;
    places.of_value[id] = {arena_of(id).take(stride), stride};
  };
  if (program.input != no_value) place(program.input);
  std::vector<ValueId> used;
  for (size_t i = 0; i < count; ++i) {
    used.clear();
    for_each_value(program.operators[i], [&](ValueId id, bool is_output) {
      if (is_output) place(id);
      used.push_back(base(id));
    });
    for (auto id = used.begin(); id != used.end(); ++id) {
      if (last_use[*id] != i || std::find(used.begin(), id, *id) != id) continue;
      const Place& dead = places.of_value[*id];
      arena_of(*id).give(dead.offset, dead.stride);
    }
  }
  for (size_t id = 0; id < program.values.size(); ++id) {
    const ValueId viewed = program.values[id].view_of;
    if (viewed != no_value) places.of_value[id] = places.of_value[viewed];
  }
  places.token_bytes = tokens.size();
  places.logit_bytes = logits.size();
  return places;
}

}  // namespace billfish
