#pragma once

#include <string>

/// The tokens of text that comes on standard input, as the tokenizer.json of a model gives them.
namespace text_tokens {

struct Arguments {
  std::string model;
  bool json = false, plain = false;
};

/// Prints the tokens of all of it in one line; with `json` those of every line, a JSON text, as a
/// JSON list. With `plain` without the tokens that the file puts around a text.
int tokenize(const Arguments& arguments);

}  // namespace text_tokens
