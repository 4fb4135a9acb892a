#include "engine/rank_group.h"

#include <utility>

#include "engine/error.h"
#include "engine/spin.h"

namespace billfish {
namespace {

[[noreturn]] void throw_given_up() { throw Error("ABORTED", "Another rank of the stage gave the step up."); }

}  // namespace

void RankGroup::begin() {
  here_ = 0;
  given_up_ = false;
  reason_ = nullptr;
}

void RankGroup::end() {
  std::lock_guard lock(mutex_);
  if (reason_) std::rethrow_exception(reason_);
}

void RankGroup::meet() {
  const uint32_t meeting = meeting_.load();
  const auto over = [&] { return meeting_.load() != meeting; };
  if (given_up_) throw_given_up();
  if (here_.fetch_add(1) + 1 == ranks()) {
    here_ = 0;
    meeting_.fetch_add(1);
    meeting_.notify_all();
  } else {
    spin_until(over);
    while (!over()) meeting_.wait(meeting);
  }
  if (given_up_) throw_given_up();
}

void RankGroup::give_up(std::exception_ptr reason) {
  {
    std::lock_guard lock(mutex_);
    if (!reason_) reason_ = std::move(reason);
  }
  given_up_ = true;
  meeting_.fetch_add(1);
  meeting_.notify_all();
}

}  // namespace billfish
