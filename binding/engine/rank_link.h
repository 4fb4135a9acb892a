// How ranks of a stage exchange values if not through each other's memory.
#pragma once

namespace billfish {

class RankLink {
 public:
  virtual ~RankLink() = default;

  // Before a step, while no rank is running: reconnects after abort(). Throws if it cannot.
  virtual void renew() = 0;

  // Aborts collectives that one rank will not take part in. From any thread, while ranks may be using the link.
  virtual void abort() noexcept = 0;
};

}  // namespace billfish
