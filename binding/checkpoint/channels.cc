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

std::vector<int32_t> read_order(const TensorRef& tensor, int64_t in, int64_t group_size, const MappedFiles& files) {
  check_tensor(tensor, files, {DType::i32}, {in});
  const uint8_t* bytes = tensor_bytes(tensor, files);
  const int64_t groups = (in + group_size - 1) / group_size;

  // Counting sort: it is stable, and its counts are needed for the check.
  std::vector<int64_t> members(groups, 0);
  bool natural = true, zero = true;
  for (int64_t k = 0; k < in; ++k) {
    const int32_t group = load<int32_t>(bytes + 4 * k);
    if (group < 0 || group >= groups) {
      refuse(tensor_text(tensor, files) + " puts input " + std::to_string(k) + " into group " + std::to_string(group) +
             "; the layer has " + std::to_string(groups) + " groups");
    }
    natural = natural && group == k / group_size;
    zero = zero && group == 0;
    ++members[group];
  }
  if (natural || zero) return {};

  std::vector<int64_t> next(groups);
  for (int64_t group = 0; group < groups; ++group) {
    next[group] = group * group_size;
    const int64_t wanted = group + 1 < groups ? group_size : in - next[group];
    if (members[group] != wanted) {
      refuse(tensor_text(tensor, files) + " puts " + std::to_string(members[group]) + " inputs into group " +
             std::to_string(group) + " where group size " + std::to_string(group_size) + " and " + std::to_string(in) +
             " inputs make it " + std::to_string(wanted));
    }
  }
  std::vector<int32_t> order(in);
  for (int64_t k = 0; k < in; ++k) order[next[load<int32_t>(bytes + 4 * k)]++] = static_cast<int32_t>(k);
  return order;
}

std::vector<int32_t> order_to_follow(const Part& part, const MappedFiles& files) {
  if (!part.follows) return {};
  return read_order(*part.follows, part.stored_out, part.followed_group_size, files);
}

}  // namespace billfish
