#include "engine/link.h"

#include <algorithm>
#include <string>
#include <variant>

#include "engine/error.h"

namespace billfish {
namespace {

struct Transfer {
  bool is_sent;
  RowKind rows;
  int64_t width, at;
};

// Those of a program on one link, in order.
std::vector<Transfer> transfers(const Program& program, int32_t link) {
  std::vector<Transfer> list;
  const auto add = [&](bool is_sent, ValueId id, int64_t at) {
    list.push_back({is_sent, program.values[id].rows, program.values[id].width, at});
  };
  for (const Operator& op : program.operators) {
    if (const auto* send = std::get_if<Send>(&op); send != nullptr && send->link == link) {
      add(true, send->x, send->at);
    } else if (const auto* receive = std::get_if<Receive>(&op); receive != nullptr && receive->link == link) {
      add(false, receive->out, receive->at);
    }
  }
  return list;
}

}  // namespace

std::vector<int64_t> link_widths(const Program& stage) {
  std::vector<int64_t> widths;
  const auto add = [&](ValueId id, int32_t link, int64_t at) {
    const auto index = static_cast<size_t>(link);
    if (widths.size() <= index) widths.resize(index + 1);
    widths[index] = std::max(widths[index], at + stage.values[id].width);
  };
  for (const Operator& op : stage.operators) {
    if (const auto* send = std::get_if<Send>(&op)) add(send->x, send->link, send->at);
    if (const auto* receive = std::get_if<Receive>(&op)) add(receive->out, receive->link, receive->at);
  }
  return widths;
}

void validate_link(const Program& stage, int32_t link, const Program& branch) {
  const std::vector<Transfer> own = transfers(stage, link), others = transfers(branch, 0);
  const bool fits = std::equal(own.begin(), own.end(), others.begin(), others.end(), [](const auto& a, const auto& b) {
    return a.is_sent != b.is_sent && a.rows == b.rows && a.width == b.width && a.at == b.at;
  });
  if (fits && link_widths(branch).size() == 1) return;
  throw Error("INTERNAL", "A stage and its branch " + std::to_string(link) +
                              " do not send what the other one receives. This is a mistake in the model's definition, "
                              "please report it.");
}

}  // namespace billfish
