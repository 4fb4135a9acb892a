#include "platform/code_architecture.h"

#include <algorithm>
#include <charconv>

namespace billfish {
namespace {

struct Entry {
  int architecture = 0;
  char scope = ' ';  // 'a': only this architecture; 'f': its major version
  bool machine_code = true, ptx = true;
};

std::optional<Entry> parse(std::string_view text) {
  Entry entry;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), entry.architecture);
  if (error != std::errc()) return std::nullopt;
  std::string_view rest = text.substr(static_cast<size_t>(stop - text.data()));
  if (!rest.empty() && (rest[0] == 'a' || rest[0] == 'f')) {
    entry.scope = rest[0];
    rest.remove_prefix(1);
  }
  entry.machine_code = rest != "-virtual";
  entry.ptx = rest != "-real";
  if (!rest.empty() && rest != "-virtual" && rest != "-real") return std::nullopt;
  return entry;
}

bool runs_machine_code(const Entry& entry, int capability) {
  if (!entry.machine_code || entry.architecture > capability) return false;
  return entry.scope == 'a' ? entry.architecture == capability : entry.architecture / 10 == capability / 10;
}

bool compiles_ptx(const Entry& entry, int capability) {
  if (!entry.ptx || entry.architecture > capability) return false;
  if (entry.scope == 'a') return entry.architecture == capability;
  return entry.scope != 'f' || entry.architecture / 10 == capability / 10;
}

std::string version_text(int architecture) {
  return std::to_string(architecture / 10) + "." + std::to_string(architecture % 10);
}

}  // namespace

std::optional<int> code_architecture(std::string_view compiled, int compute_capability) {
  int machine_code = 0, ptx = 0;
  while (!compiled.empty()) {
    const size_t end = std::min(compiled.find_first_of(" ;"), compiled.size());
    const std::string_view word = compiled.substr(0, end);
    compiled.remove_prefix(std::min(end + 1, compiled.size()));
    if (word.empty()) continue;
    const std::optional<Entry> entry = parse(word);
    if (!entry) return std::nullopt;
    if (runs_machine_code(*entry, compute_capability)) machine_code = std::max(machine_code, entry->architecture);
    if (compiles_ptx(*entry, compute_capability)) ptx = std::max(ptx, entry->architecture);
  }
  return machine_code != 0 ? machine_code : ptx;
}

std::string explain_code_architecture(int code, int compute_capability) {
  const std::string remedy = " Build again with BILLFISH_CUDA_ARCHITECTURES=" + std::to_string(compute_capability);
  if (code == 0) {
    return "This build has no code that runs on compute capability " + version_text(compute_capability) + "." + remedy +
           ".";
  }
  constexpr int hopper = 90;
  if (code >= hopper || compute_capability < hopper) return "";
  return "This build runs its code for compute capability " + version_text(code) +
         " here, which has neither the bulk copies nor the overlapping launches that this device is capable of." +
         remedy + " for its full speed.";
}

}  // namespace billfish
