#include "text_tokens.hpp"

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "job.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/tokenizer.hpp"

namespace text_tokens {
namespace {

void print(const std::vector<ssm::Token>& tokens, const char* open, const char* between,
           const char* close) {
  std::string line = open;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    line.append(i > 0 ? between : "").append(std::to_string(tokens[i]));
  std::puts(line.append(close).c_str());
}

}  // namespace

int tokenize(const Arguments& a) {
  std::filesystem::path path = a.model;
  if (std::filesystem::is_directory(path)) path /= "tokenizer.json";
  const ssm::Tokenizer tokenizer(path);
  const ssm::EncodeOptions options{.special = !a.plain};
  if (!a.json) {
    const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    const job::Stopwatch watch;
    const std::vector<ssm::Token> tokens = tokenizer.encode(text, options);
    const double seconds = watch.seconds();
    print(tokens, "", " ", "");
    std::fprintf(stderr, "%zu tokens, %.2f MB/s\n", tokens.size(),
                 static_cast<double>(text.size()) / seconds / 1e6);
    return 0;
  }
  std::size_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const ssm::Json json = ssm::detail::parse_json("standard input", line,
                                                   "line " + std::to_string(++number), line.size());
    const auto* text = json.as<std::string>();
    if (text == nullptr)
      throw std::runtime_error("standard input: line " + std::to_string(number) +
                               " is no JSON text, expected one as --json was given");
    print(tokenizer.encode(*text, options), "[", ",", "]");
    job::flush_output();
  }
  return 0;
}

}  // namespace text_tokens
