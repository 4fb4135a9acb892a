#include "backend/recorded_steps.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <utility>

#include "engine/error.h"

namespace billfish::BILLFISH_TARGET {

static bool wanted() {
  const char* text = std::getenv("BILLFISH_CUDA_GRAPHS");
  const std::string value = text == nullptr ? "" : text;
  if (value == "off") return false;
  if (value.empty() || value == "on") return true;
  throw Error("INVALID_OPTION", "BILLFISH_CUDA_GRAPHS is '" + value + "'; it must be on or off.");
}

// An aborted step says nothing about capturing the next one, and a lost device cannot be helped.
static bool is_about_recording(const Error& error) {
  return error.code() != "ABORTED" && error.code() != "DEVICE_LOST";
}

RecordedSteps::RecordedSteps() : wanted_(wanted()), on_(wanted_) {}

int64_t RecordedSteps::rows_for(int64_t rows, int64_t most) const {
  if (!wanted_ || rows > max_rows) return 0;
  const int64_t step = rows <= 64 ? 8 : 32;
  const int64_t rounded =
      rows <= 8 ? static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows))) : (rows + step - 1) / step * step;
  return std::min(rounded, most);
}

RecordedSteps::Entry& RecordedSteps::entry_of(const std::vector<int32_t>& key) {
  auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  const bool is_new = entry == entries_.end();
  if (is_new && entries_.size() < max_steps) {
    entries_.push_back({key, 0, {}});
    entry = std::prev(entries_.end());
  } else if (is_new) {
    entry = std::min_element(entries_.begin(), entries_.end(),
                             [](const Entry& a, const Entry& b) { return a.last_use < b.last_use; });
    *entry = {key, 0, {}};
  }
  entry->last_use = ++uses_;
  return *entry;
}

void RecordedSteps::begin(const std::vector<int32_t>& key) { current_ = on_ ? &entry_of(key) : nullptr; }

void RecordedSteps::run(Stream& stream, size_t part, const std::function<void()>& operators) {
  Part* recorded = nullptr;
  if (current_ != nullptr && on_) {
    if (current_->parts.size() <= part) current_->parts.resize(part + 1);
    recorded = &current_->parts[part];
    if (recorded->has_run && !recorded->graph && record(stream, *recorded, operators)) return;
  }
  if (recorded != nullptr && recorded->graph) {
    stream.launch(*recorded->graph);
    return;
  }
  operators();
  if (recorded != nullptr) recorded->has_run = true;
}

bool RecordedSteps::record(Stream& stream, Part& part, const std::function<void()>& operators) {
  try {
    part.graph = capture_and_launch(stream, operators);
    return true;
  } catch (const Error& error) {
    if (!is_about_recording(error)) throw;
    if (!stream.overlaps_grids()) {
      fail(stream, error);
      return false;
    }
    notice_ = "Decode steps on " + stream.device().name() +
              " are recorded without overlapping launches (as with BILLFISH_CUDA_PDL=off), which may be slower, "
              "because one could not be recorded with them: " +
              error.what();
  }
  stream.stop_overlapping_grids();
  try {
    part.graph = capture_and_launch(stream, operators);
    return true;
  } catch (const Error& error) {
    if (!is_about_recording(error)) throw;
    fail(stream, error);
    return false;
  }
}

// Launches right away: only then does CUDA allocate the graph's memory and detect what the device cannot do. A graph
// that fails to launch has done nothing.
Graph RecordedSteps::capture_and_launch(Stream& stream, const std::function<void()>& operators) {
  Graph graph = stream.capture(operators);
  stream.launch(graph);
  return graph;
}

void RecordedSteps::fail(const Stream& stream, const Error& error) {
  on_ = false;
  notice_ = "Decode steps on " + stream.device().name() +
            " run without CUDA graphs, which may be slower, because one could not be recorded: " + error.what();
}

std::string RecordedSteps::take_notice() { return std::exchange(notice_, {}); }

}  // namespace billfish::BILLFISH_TARGET
