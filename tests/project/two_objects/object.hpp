#pragma once

#include <vector>

/// What each object of the program computes with its own copy of the library.
struct Outcome {
  std::vector<float> scanned, stepped, gradient;
};

Outcome computed_for_this_processor();
Outcome computed_for_any_processor();
