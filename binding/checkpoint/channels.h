// Which channels (outputs or inputs) of a stored layer a part contains, and in which order act-order puts the inputs.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"

namespace billfish {

class Channels {
 public:
  // `runs`: empty for all channels. With an `order`, stored channel i is order[i]. Throws INVALID_CHECKPOINT, naming
  // `name` and `what`, unless the runs are within the stored channels and total `count` channels.
  Channels(const std::vector<ChannelRun>& runs, int64_t stored, int64_t count, const std::string& name,
           const char* what, std::vector<int32_t> order = {});

  // Whether the part has all channels in their original positions.
  bool are_all() const { return all_; }

  // For channels [first, first + count) of the part, in order: calls stored(channel of the part, stored channel, count)
  // for runs that are consecutive in the stored layer, and zeros(channel of the part, count).
  template <class Stored, class Zeros>
  void for_each(int64_t first, int64_t count, Stored stored, Zeros zeros) const {
    const int64_t end = first + count;
    auto run = std::upper_bound(begins_.begin(), begins_.end(), first) - begins_.begin() - 1;
    for (int64_t at = first; at < end; ++run) {
      const int64_t until = std::min(end, begins_[run] + runs_[run].count);
      if (runs_[run].start == ChannelRun::zeros) {
        zeros(at, until - at);
      } else {
        for_each_in_run(at, until, runs_[run].start + at - begins_[run], stored);
      }
      at = until;
    }
  }

 private:
  template <class Stored>
  void for_each_in_run(int64_t at, int64_t until, int64_t start, Stored stored) const {
    if (order_.empty()) {
      stored(at, start, until - at);
      return;
    }
    while (at < until) {
      int64_t length = 1;
      while (at + length < until && order_[start + length] == order_[start] + length) ++length;
      stored(at, order_[start], length);
      at += length;
      start += length;
    }
  }

  std::vector<ChannelRun> runs_;  // none of them empty
  std::vector<int64_t> begins_;   // of each run in the part
  std::vector<int32_t> order_;
  bool all_ = false;
};

// Act-order: reads the group index (the stored group of every input) of a layer with `in` inputs, and gives the
// permutation of the inputs that makes groups contiguous. Empty if the groups are in natural order (input k in group k
// / group_size), or if all entries are zero, as some writers leave them without act-order. Otherwise order[i] is the
// i-th input after a stable sort by group. Throws INVALID_CHECKPOINT unless that input is in group i / group_size,
// which makes the sorted layer an ordinary grouped one.
std::vector<int32_t> read_order(const TensorRef& group_index, int64_t in, int64_t group_size, const MappedFiles& files);

// The order that the outputs of a part have because the layer that reads them is act-ordered (Part::follows); empty:
// their natural one.
std::vector<int32_t> order_to_follow(const Part& part, const MappedFiles& files);

}  // namespace billfish
