// Which channels (outputs or inputs) of a stored layer a part contains.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

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

}  // namespace billfish
