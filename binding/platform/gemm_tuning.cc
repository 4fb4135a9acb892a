#include "platform/gemm_tuning.h"

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "engine/error.h"

namespace billfish {

namespace {

constexpr const char* heading = "billfish cuda tuning 1";

// One line, word by word.
class Line {
 public:
  Line(const std::string& text, const std::string& place) : words_(text), place_(place) {}

  [[noreturn]] void refuse(const std::string& why) const {
    throw Error("INVALID_OPTION",
                place_ + ": " + why + ". Measure it anew, or set BILLFISH_CUDA_TUNING=off to do without.");
  }
  std::string word(const char* what) {
    std::string word;
    if (!(words_ >> word)) refuse(std::string("the line ends where ") + what + " should be");
    return word;
  }
  std::string rest() {
    std::string rest;
    std::getline(words_ >> std::ws, rest);
    return rest;
  }
  void end() {
    if (const std::string more = rest(); !more.empty()) refuse("'" + more + "' follows the line's end");
  }
  int64_t integer(const std::string& text, const char* what, int64_t most) const {
    int64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || stop != text.data() + text.size() || value < 1 || value > most) {
      refuse("'" + text + "' is no " + what + " between 1 and " + std::to_string(most));
    }
    return value;
  }
  double factor() {
    const std::string text = word("a factor");
    double value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || stop != text.data() + text.size() || !(value >= 1e-9 && value <= 1e9)) {
      refuse("'" + text + "' is no factor between 1e-9 and 1e9");
    }
    return value;
  }
  int bits() {
    const std::string text = word("the number of bits");
    if (text != "4" && text != "8" && text != "16") refuse("'" + text + "' bits are none of 4, 8 and 16");
    return std::stoi(text);
  }
  // "8x128x256"
  std::vector<int64_t> sizes(size_t count, const char* what) {
    const std::string text = word(what);
    std::vector<int64_t> sizes;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, 'x');) sizes.push_back(integer(part, "size", 1 << 30));
    if (sizes.size() != count) refuse("'" + text + "' is not " + what);
    return sizes;
  }

 private:
  std::istringstream words_;
  std::string place_;
};

void parse_line(Line& line, std::vector<GemmTuning>& tunings) {
  const std::string kind = line.word("a kind of line");
  if (kind == "device") {
    const std::string name = line.rest();
    if (name.empty()) line.refuse("a device without a name");
    for (const GemmTuning& tuning : tunings) {
      if (tuning.device == name) line.refuse("the device '" + name + "' is there twice");
    }
    tunings.push_back({});
    tunings.back().device = name;
    return;
  }
  if (tunings.empty()) line.refuse("'" + kind + "' before the first device");
  GemmTuning& tuning = tunings.back();
  if (kind == "panel-factor") {
    tuning.panel_factor = line.factor();
  } else if (kind == "tile" || kind == "bulk-tile") {
    const int bits = line.bits();
    const auto sizes = line.sizes(3, "a tile such as 8x128x256");
    tuning.tiles.push_back({bits, static_cast<int>(sizes[0]), static_cast<int>(sizes[1]), static_cast<int>(sizes[2]),
                            line.factor(), kind == "bulk-tile"});
  } else if (kind == "crossover") {
    const int bits = line.bits();
    const auto sizes = line.sizes(2, "outputs x inputs such as 8192x8192");
    const std::string rows = line.word("a number of rows");
    tuning.crossovers.push_back(
        {bits, sizes[0], sizes[1], rows == "never" ? Crossover::never : line.integer(rows, "row count", 1 << 24)});
  } else {
    line.refuse("'" + kind + "' is none of device, panel-factor, tile, bulk-tile and crossover");
  }
  line.end();
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) {
    throw Error("INVALID_OPTION",
                "The CUDA tuning " + path + " cannot be read. Name another file in BILLFISH_CUDA_TUNING, or 'off'.");
  }
  return text.str();
}

}  // namespace

std::vector<GemmTuning> parse_tunings(const std::string& text, const std::string& source) {
  std::vector<GemmTuning> tunings;
  std::istringstream lines(text);
  bool begun = false;
  int number = 0;
  for (std::string content; std::getline(lines, content);) {
    ++number;
    content = content.substr(0, content.find('#'));
    const size_t last = content.find_last_not_of(" \t\r");
    if (last == std::string::npos) continue;
    content.resize(last + 1);
    Line line(content, source + " line " + std::to_string(number));
    if (begun) {
      parse_line(line, tunings);
    } else if (content == heading) {
      begun = true;
    } else {
      line.refuse("a CUDA tuning begins with '" + std::string(heading) + "'");
    }
  }
  if (!begun) Line("", source).refuse("a CUDA tuning begins with '" + std::string(heading) + "'");
  return tunings;
}

std::string tunings_text(const std::vector<GemmTuning>& tunings) {
  std::ostringstream text;
  text << heading << "\n";
  for (const GemmTuning& tuning : tunings) {
    text << "device " << tuning.device << "\npanel-factor " << tuning.panel_factor << "\n";
    for (const TileFactor& tile : tuning.tiles) {
      text << (tile.bulk ? "bulk-tile " : "tile ") << tile.bits << " " << tile.tokens << "x" << tile.outputs << "x"
           << tile.inputs << " " << tile.factor << "\n";
    }
    for (const Crossover& crossover : tuning.crossovers) {
      text << "crossover " << crossover.bits << " " << crossover.out << "x" << crossover.in << " "
           << (crossover.rows == Crossover::never ? "never" : std::to_string(crossover.rows)) << "\n";
    }
  }
  return text.str();
}

std::string with_tuning(const std::string& text, const std::string& source, const GemmTuning& tuning) {
  std::vector<GemmTuning> tunings = text.empty() ? std::vector<GemmTuning>() : parse_tunings(text, source);
  std::erase_if(tunings, [&](const GemmTuning& other) { return other.device == tuning.device; });
  tunings.push_back(tuning);
  return tunings_text(tunings);
}

std::string tuning_path() {
  if (const char* path = std::getenv("BILLFISH_CUDA_TUNING"); path != nullptr && *path != '\0') {
    return std::string(path) == "off" ? "" : path;
  }
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return std::string(cache) + "/billfish/cuda-tuning.txt";
  }
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? "" : std::string(home) + "/.cache/billfish/cuda-tuning.txt";
}

GemmTuning tuning_of(const std::string& device) {
  const std::string path = tuning_path();
  const char* named = std::getenv("BILLFISH_CUDA_TUNING");
  const bool wanted = named != nullptr && *named != '\0';  // otherwise a missing file is fine
  if (!path.empty() && (wanted || std::ifstream(path).good())) {
    for (GemmTuning& tuning : parse_tunings(read_file(path), path)) {
      if (tuning.device == device) return tuning;
    }
  }
  GemmTuning none;
  none.device = device;
  return none;
}

}  // namespace billfish
