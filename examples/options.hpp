#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "job.hpp"

/// Numbers on the command lines of the examples.
namespace job {

/// A number from `least` to `most`. (CLI11's own Range lets NaN pass, and it wraps a negative
/// number where none is expected.)
inline CLI::Validator between(double least, double most) {
  const auto check = [least, most](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return "";
    return format("%s is not a number from %.10g to %.10g", text.c_str(), least, most);
  };
  return {check, format("%.10g to %.10g", least, most), "between"};
}

}  // namespace job
