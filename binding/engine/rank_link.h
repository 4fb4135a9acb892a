// What the ranks of a stage exchange values through, where that is not each other's memory.
#pragma once

namespace billfish {

class RankLink {
 public:
  virtual ~RankLink() = default;

  // Before a step, while no rank is at work: makes it good again after abort(). Throws what cannot be made.
  virtual void renew() = 0;

  // A rank will not take part in what others have begun: ends it for all, whatever comes out. From any thread, while
  // ranks may be using it.
  virtual void abort() noexcept = 0;
};

}  // namespace billfish
