#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace CLI {
class App;
class Option;
}  // namespace CLI

/// Command lines of the examples. options.cpp reads them by CLI11, which takes longer to compile
/// than most of the programs do.
namespace options {

/// Numbers that an option takes, and the words for them. Those of CLI11 print their largest number,
/// all its 309 digits; NaN is in each of its ranges, and a negative number where none is expected
/// becomes a large one.
struct Numbers {
  std::string want;
  double least, most;
  bool has_least = true;  ///< whether `least` is one of them
};

inline const Numbers positive{"a positive number", 0, 1e300, false};
inline const Numbers not_negative{"a number not below 0", 0, 1e300};

/// A number from `least` to `most`.
Numbers between(double least, double most);

/// Reads the whole of `text` into a number or a truth value, or leaves that as it is.
template <class T>
void read(const std::string& text, T& value);

class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}
  Option& required();
  /// Refuses other values, in words.
  Option& check(const Numbers& numbers);
  Option& one_of(std::initializer_list<const char*> words);
  /// A positive number of bytes, perhaps with a unit, such as 2G.
  Option& bytes();
  /// Tells the value that it has now by --help.
  Option& show_default();
  Option& excludes(const Option& other);
  /// Of several values: one each time that it is given, whatever it looks like.
  Option& one_at_a_time();

 private:
  CLI::Option* option_;
};

/// A program's command line, or the part of it that follows one of its commands.
class Command {
 public:
  explicit Command(const char* description);
  /// One of the commands of a program, of which one must be given.
  Command command(const char* name, const char* description);

  /// An option that sets `value`. Defined for the types that the examples have.
  template <class T>
  Option add(const char* name, T& value, const char* what = "");
  Option flag(const char* name, bool& value, const char* what);

  /// Reads a command line, again if wanted. Returns the status to end the program with: after an
  /// error or --help, which it prints unless `quiet`.
  [[nodiscard]] std::optional<int> parse(int argc, char** argv, bool quiet = false);
  /// Prints an error about an option, and returns the status to end the program with.
  [[nodiscard]] int refuse(const char* option, const char* sentence) const;
  /// Whether this command was given.
  [[nodiscard]] bool parsed() const;

 private:
  explicit Command(std::shared_ptr<CLI::App> app) : app_(std::move(app)) {}
  std::shared_ptr<CLI::App> app_;
};

}  // namespace options
