#pragma once

#include <string>

#include "options.hpp"

/// Models of fewer bits a weight.
namespace quantize {

struct Arguments {
  std::string model, out, format = "q8";
  bool overwrite = false;
  int threads = 0;
};

void add_options(options::Command& command, Arguments& arguments);

/// Writes the model with its matrices in another format, and what lies beside it for a tokenizer.
int run(const Arguments& arguments);

}  // namespace quantize
