#include "engine/rank_group.h"

#include <utility>

#include "engine/error.h"
#include "engine/spin.h"

namespace billfish {
namespace {

[[noreturn]] void throw_given_up() { throw Error("ABORTED", "Another rank of the stage gave the step up."); }

bool is_aborted(const std::exception_ptr& reason) {
  try {
    std::rethrow_exception(reason);
  } catch (const Error& error) {
    return error.code() == "ABORTED";
  } catch (...) {
    return false;
  }
}

}  // namespace

void RankGroup::begin() {
  here_ = 0;
  given_up_ = false;
  reason_ = nullptr;
  if (link_) link_->renew();
}

void RankGroup::end() {
  std::lock_guard lock(mutex_);
  if (reason_) std::rethrow_exception(reason_);
}

void RankGroup::meet() {
  const uint32_t before = meetings_.load();
  if (given_up_) throw_given_up();
  if (here_.fetch_add(1) + 1 == ranks()) {
    here_ = 0;
    meetings_.fetch_add(1);
    changes_.fetch_add(1);
    changes_.notify_all();
    return;
  }
  const auto is_over = [&] { return meetings_.load() != before || given_up_.load(); };
  spin_until(is_over);
  for (uint32_t change = changes_.load(); !is_over(); change = changes_.load()) changes_.wait(change);
  if (meetings_.load() == before) throw_given_up();
}

void RankGroup::give_up(std::exception_ptr reason) {
  const bool has_failed = !is_aborted(reason);
  {
    std::lock_guard lock(mutex_);
    if (!reason_) reason_ = std::move(reason);  // before the abort, which makes other ranks give up for its own sake
  }
  // Between two operators all ranks have begun the same exchanges; after a failure they may not have.
  if (link_ && has_failed) link_->abort();
  given_up_ = true;
  changes_.fetch_add(1);
  changes_.notify_all();
}

}  // namespace billfish
