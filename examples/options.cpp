#include "options.hpp"

#include <CLI/CLI.hpp>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "job.hpp"

namespace options {

Numbers between(double least, double most) {
  return {job::format("a number from %.10g to %.10g", least, most), least, most};
}

template <class T>
void read(const std::string& text, T& value) {
  T read{};
  if (CLI::detail::lexical_cast(text, read)) value = read;
}
template void read(const std::string&, bool&);
template void read(const std::string&, int&);
template void read(const std::string&, long&);
template void read(const std::string&, long long&);
template void read(const std::string&, double&);

Option& Option::required() { return option_->required(), *this; }
Option& Option::check(const Numbers& numbers) {
  option_->check(CLI::Validator(
      [numbers](const std::string& text) {
        double value = 0;
        const bool right = CLI::detail::lexical_cast(text, value) &&
                           (numbers.has_least ? value >= numbers.least : value > numbers.least) &&
                           value <= numbers.most;
        return right ? std::string() : "is " + text + ", expected " + numbers.want;
      },
      numbers.want));
  return *this;
}
Option& Option::one_of(std::initializer_list<const char*> words) {
  return option_->check(CLI::IsMember(std::vector<std::string>(words.begin(), words.end()))), *this;
}
Option& Option::bytes() {
  option_->transform(CLI::AsSizeValue(true));
  return check(positive);
}
Option& Option::show_default() { return option_->capture_default_str(), *this; }
Option& Option::one_at_a_time() { return option_->allow_extra_args(false), *this; }
Option& Option::excludes(const Option& other) { return option_->excludes(other.option_), *this; }

Command::Command(const char* description) : app_(std::make_shared<CLI::App>(description)) {}

Command Command::command(const char* name, const char* description) {
  app_->require_subcommand(1);
  return Command({app_, app_->add_subcommand(name, description)});
}

template <class T>
Option Command::add(const char* name, T& value, const char* what) {
  return Option(app_->add_option(name, value, what));
}
template Option Command::add(const char*, int&, const char*);
template Option Command::add(const char*, long&, const char*);
template Option Command::add(const char*, long long&, const char*);
template Option Command::add(const char*, unsigned long&, const char*);
template Option Command::add(const char*, unsigned long long&, const char*);
template Option Command::add(const char*, float&, const char*);
template Option Command::add(const char*, double&, const char*);
template Option Command::add(const char*, std::string&, const char*);
template Option Command::add(const char*, std::vector<std::string>&, const char*);
template Option Command::add(const char*, std::optional<std::string>&, const char*);
template Option Command::add(const char*, std::optional<double>&, const char*);
template Option Command::add(const char*, std::optional<long long>&, const char*);

Option Command::flag(const char* name, bool& value, const char* what) {
  return Option(app_->add_flag(name, value, what));
}

std::optional<int> Command::parse(int argc, char** argv, bool quiet) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostream nowhere(nullptr);
    return quiet ? app_->exit(error, nowhere, nowhere) : app_->exit(error);
  }
  return std::nullopt;
}
int Command::refuse(const char* option, const char* sentence) const {
  return app_->exit(CLI::ValidationError(option, sentence));
}
bool Command::parsed() const { return app_->parsed(); }

}  // namespace options
