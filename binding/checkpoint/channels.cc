#include "checkpoint/channels.h"

#include <utility>

#include "checkpoint/tensor_check.h"

namespace billfish {

Channels::Channels(const std::vector<ChannelRun>& runs, int64_t stored, int64_t count, const std::string& name,
                   const char* what, std::vector<int32_t> order)
    : order_(std::move(order)) {
  const auto text = [&] { return "The part of layer '" + name + "'"; };
  int64_t covered = 0;
  for (const ChannelRun& run : runs.empty() ? std::vector<ChannelRun>{{0, stored}} : runs) {
    const bool zeros = run.start == ChannelRun::zeros;
    if (run.count < 0 || run.count > count || (!zeros && (run.start < 0 || run.start > stored - run.count))) {
      refuse(text() + " takes " + std::to_string(run.count) + " " + what + " from " + std::to_string(run.start) +
             " on; the layer has " + std::to_string(stored));
    }
    if (run.count == 0) continue;
    runs_.push_back(run);
    begins_.push_back(covered);
    covered += run.count;
    if (covered > count) break;
  }
  if (covered != count || count == 0) {
    refuse(text() + " is to have " + std::to_string(count) + " " + what + ", but its runs have " +
           std::to_string(covered) + (covered > count ? " and more" : ""));
  }
  all_ = order_.empty() && count == stored && runs_.size() == 1 && runs_[0].start == 0;
}

}  // namespace billfish
