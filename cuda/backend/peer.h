// What backends of this target know of each other, independent of the element type.
#pragma once
#include "backend/peer_channel.h"
#include "engine/backend.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

class RankExchange;

class Peer : public Backend {
 public:
  virtual const Device& target_device() const = 0;
  virtual Stream& stream() = 0;
  virtual PeerChannel& peer_channel() = 0;  // fp32, contiguous
  virtual const RankExchange& exchange() const = 0;
};

}  // namespace billfish::BILLFISH_TARGET
