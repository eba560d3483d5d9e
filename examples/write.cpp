// A language model on disk goes on with a text: write examples/checkpoints/kjv "In the beginning"
#include <iostream>

#include "ssm/io/checkpoint.hpp"
#include "ssm/models/text_generator.hpp"

int main(int argc, char** argv) try {
  if (argc < 3) throw std::invalid_argument("usage: write MODEL PROMPT");
  ssm::TextGenerator writer(ssm::load_mamba_lm(argv[1]), {.temperature = 0.7});
  writer.read(argv[2]);
  std::cout << argv[2] << writer.write(500) << '\n';
  return std::cout.flush() ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
