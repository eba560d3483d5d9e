#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "job.hpp"

/// Checks of the examples' options, in words: those of CLI11 print their largest number, all its
/// 309 digits.
namespace options {

inline CLI::Validator number(const std::string& want, bool (*fits)(double)) {
  return CLI::Validator(
      [=](const std::string& text) {
        double value = 0;
        const bool right = CLI::detail::lexical_cast(text, value) && fits(value);
        return right ? std::string() : "is " + text + ", expected " + want;
      },
      want);
}

inline const CLI::Validator positive =
    number("a positive number", [](double x) { return x > 0 && x <= 1e300; });
inline const CLI::Validator not_negative =
    number("a number not below 0", [](double x) { return x >= 0 && x <= 1e300; });

/// A number from `least` to `most`. Of the same name in CLI11, NaN is in every range, and a
/// negative number where none is expected becomes a large one.
inline CLI::Validator between(double least, double most) {
  const std::string want = job::format("a number from %.10g to %.10g", least, most);
  return CLI::Validator(
      [=](const std::string& text) {
        double value = 0;
        const bool right =
            CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
        return right ? std::string() : "is " + text + ", expected " + want;
      },
      want);
}

}  // namespace options
