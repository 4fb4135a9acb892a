#include "engine/rank_group.h"

#include <utility>

#include "engine/error.h"
#include "engine/spin.h"

namespace billfish {
namespace {

[[noreturn]] void throw_aborted() { throw Error("ABORTED", "Another rank of the stage failed."); }

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
  arrived_ = 0;
  failed_ = false;
  reason_ = nullptr;
  if (link_) link_->renew();
}

void RankGroup::end() {
  std::lock_guard lock(mutex_);
  if (reason_) std::rethrow_exception(reason_);
}

void RankGroup::barrier() {
  const uint32_t before = generation_.load();
  if (failed_) throw_aborted();
  if (arrived_.fetch_add(1) + 1 == ranks()) {
    arrived_ = 0;
    generation_.fetch_add(1);
    changes_.fetch_add(1);
    changes_.notify_all();
    return;
  }
  const auto is_over = [&] { return generation_.load() != before || failed_.load(); };
  spin_until(is_over);
  for (uint32_t change = changes_.load(); !is_over(); change = changes_.load()) changes_.wait(change);
  if (generation_.load() == before) throw_aborted();
}

void RankGroup::fail(std::exception_ptr reason) {
  const bool has_failed = !is_aborted(reason);
  {
    std::lock_guard lock(mutex_);
    if (!reason_) reason_ = std::move(reason);  // before the abort, which makes other ranks fail in turn
  }
  // At an abort between operators all ranks have started the same collectives; after a failure they may not have.
  if (link_ && has_failed) link_->abort();
  failed_ = true;
  changes_.fetch_add(1);
  changes_.notify_all();
}

void end_all(const std::vector<RankGroup*>& groups) {
  std::exception_ptr aborted;
  for (RankGroup* group : groups) {
    try {
      group->end();
    } catch (const Error& error) {
      if (error.code() != "ABORTED") throw;
      if (!aborted) aborted = std::current_exception();
    }
  }
  if (aborted) std::rethrow_exception(aborted);
}

}  // namespace billfish
