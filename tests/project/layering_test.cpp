#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;

const fs::path source{SSM_SOURCE_DIR};

/// The folders of include/ssm, and what each may include besides itself, core, std and Eigen.
const std::map<std::string, std::set<std::string>> may_include{
    {"core", {}},
    {"system", {}},
    {"discretize", {"system"}},
    {"scan", {"system", "discretize"}},
    {"conv", {"system", "discretize"}},
    {"estimate", {"system", "discretize"}},
    {"layers", {"system", "discretize", "scan", "conv", "estimate"}},
    {"train", {"layers", "models"}},
    {"models", {"layers"}},
    {"io", {"discretize", "conv", "layers", "models", "train"}},
    {"cuda", {"discretize", "scan", "conv", "layers", "models", "train"}},
    {"mpi", {"scan", "conv", "layers"}},
};

struct Include {
  std::string name;
  bool quoted;  // "name", not <name>
};

std::vector<Include> includes_of(const fs::path& file) {
  std::ifstream stream(file);
  REQUIRE(stream);
  std::vector<Include> includes;
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with("#include")) continue;
    const auto begin = line.find_first_of("\"<");
    const auto end = line.find_first_of("\">", begin + 1);
    REQUIRE(end != std::string::npos);
    includes.push_back({line.substr(begin + 1, end - begin - 1), line[begin] == '"'});
  }
  return includes;
}

std::vector<fs::path> public_headers() {
  std::vector<fs::path> headers;
  for (const auto& entry : fs::recursive_directory_iterator(source / "include"))
    if (entry.is_regular_file()) headers.push_back(entry.path().lexically_relative(source));
  std::sort(headers.begin(), headers.end());
  return headers;
}

/// The folder of ssm that holds "ssm/<folder>/...".
std::string folder_of(const fs::path& name) { return std::next(name.begin())->string(); }

/// A standard header has neither a folder nor an extension.
bool is_standard(const std::string& name) { return name.find_first_of("/.") == std::string::npos; }

bool is_library(const std::string& name, const std::string& folder) {
  if (name.starts_with("Eigen/") || name.starts_with("unsupported/Eigen/")) return true;
  if (folder == "core")
    return name == "omp.h" || name == "pthread.h" || name == "immintrin.h" ||
           name == "emmintrin.h" || name == "arm_neon.h" || name == "sys/mman.h";
  if (folder == "mpi") return name == "mpi.h";
  return folder == "io" &&
         (name == "fcntl.h" || name == "unistd.h" || name == "io.h" || name == "sys/file.h" ||
          name == "sys/mman.h" || name == "sys/stat.h" || name == "zlib.h");
}

}  // namespace

TEST_CASE("a folder includes only the folders that stand before it") {
  const auto headers = public_headers();
  REQUIRE(headers.size() > 5);
  for (const fs::path& header : headers) {
    const fs::path name = header.lexically_relative("include");
    INFO(name.string());
    REQUIRE(name.extension() == ".hpp");
    REQUIRE(*name.begin() == "ssm");
    if (std::distance(name.begin(), name.end()) == 2) continue;  // an umbrella over rooms
    const std::string folder = folder_of(name);
    REQUIRE(may_include.count(folder) == 1);
    for (const Include& include : includes_of(source / header)) {
      INFO("includes " << include.name);
      if (include.quoted) {
        REQUIRE(include.name.starts_with("ssm/"));
        REQUIRE(fs::exists(source / "include" / include.name));
        const std::string from = folder_of(include.name);
        CHECK((from == folder || from == "core" || may_include.at(folder).count(from) == 1));
      } else {
        CHECK((is_standard(include.name) || is_library(include.name, folder)));
      }
    }
  }
}

TEST_CASE("the visible top level is what the design names") {
  const std::set<std::string> required{"include",        "tests",     "bench",  "examples",
                                       "CMakeLists.txt", "README.md", "LICENSE"};
  std::set<std::string> visible;
  for (const auto& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    const bool built = name.starts_with("build") || fs::exists(entry.path() / "CMakeCache.txt");
    if (!name.starts_with(".") && !built) visible.insert(name);
  }
  visible.erase("cuda");
  CHECK(visible == required);
}
