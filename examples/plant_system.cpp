#include "plant_system.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "job.hpp"
#include "ssm/system/print.hpp"
#include "ssm/system/transfer_function.hpp"

namespace plant {
namespace {

using Roots = Eigen::VectorXcd;

[[noreturn]] void refuse(const std::string& option, const std::string& sentence) {
  throw std::runtime_error("--" + option + ": " + sentence);
}

std::vector<std::string> split(const std::string& text, const char* separators) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find_first_of(separators, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

/// The numbers of a list, between spaces or commas.
std::vector<std::string> words(const std::string& option, const std::string& text) {
  std::vector<std::string> found;
  for (std::string part : split(text, ",")) {
    std::istringstream stream(part);
    const std::size_t before = found.size();
    for (std::string word; stream >> word;) found.push_back(word);
    if (found.size() == before && text.find(',') != std::string::npos)
      refuse(option, "'" + text + "' lacks a number beside a comma");
  }
  return found;
}

double number(const std::string& option, const std::string& word) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (word.empty() || *end != '\0') refuse(option, "'" + word + "' is no number");
  if (!std::isfinite(value)) refuse(option, "'" + word + "' is not a finite number");
  return value;
}

Eigen::VectorXd numbers(const std::string& option, const std::string& text) {
  const std::vector<std::string> found = words(option, text);
  if (found.empty()) refuse(option, "holds no number");
  Eigen::VectorXd values(static_cast<Eigen::Index>(found.size()));
  for (std::size_t i = 0; i < found.size(); ++i)
    values(static_cast<Eigen::Index>(i)) = number(option, found[i]);
  return values;
}

Eigen::MatrixXd matrix(const std::string& option, const std::string& text) {
  Eigen::MatrixXd values;
  for (const std::string& line : split(text, ";\n")) {
    const Eigen::VectorXd row = numbers(option, line);
    if (values.rows() > 0 && row.size() != values.cols())
      refuse(option, job::format("row %ld has %ld numbers and row 1 has %ld",
                                 static_cast<long>(values.rows() + 1),
                                 static_cast<long>(row.size()), static_cast<long>(values.cols())));
    values.conservativeResize(values.rows() + 1, row.size());
    values.bottomRows(1) = row.transpose();
  }
  return values;
}

/// One root or, written as a+-bi, two: -1, 2i, -0.4+1.96i, -0.4+-1.96i.
void add_root(const std::string& option, const std::string& word,
              std::vector<std::complex<double>>& roots) {
  std::string real = word, imaginary;
  bool both = false;
  if (word.back() == 'i' || word.back() == 'j') {
    imaginary = word.substr(0, word.size() - 1);
    real = "0";
    for (std::size_t at = imaginary.size(); at-- > 1;) {  // where the imaginary part begins
      if (imaginary[at] != '+' && imaginary[at] != '-') continue;
      if (std::tolower(imaginary[at - 1]) == 'e') continue;
      both = imaginary[at] == '-' && imaginary[at - 1] == '+';
      real = imaginary.substr(0, both ? at - 1 : at);
      imaginary = imaginary.substr(both ? at + 1 : at);
      break;
    }
    if (imaginary.empty() || imaginary == "+" || imaginary == "-") imaginary += "1";
    if (real.empty()) real = "0";
  }
  const auto part = [&](const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (*end != '\0') refuse(option, "'" + word + "' is no number");
    if (!std::isfinite(value)) refuse(option, "'" + word + "' is not a finite number");
    return value;
  };
  roots.emplace_back(part(real), imaginary.empty() ? 0 : part(imaginary));
  if (both) roots.push_back(std::conj(roots.back()));
}

Roots roots(const std::string& option, const std::optional<std::string>& text) {
  std::vector<std::complex<double>> found;
  if (text)
    for (const std::string& word : words(option, *text)) add_root(option, word, found);
  for (const auto& root : found)
    if (std::count(found.begin(), found.end(), root) !=
        std::count(found.begin(), found.end(), std::conj(root)))
      refuse(option, job::format("%g%+gi stands without its conjugate; write %g+-%gi for both",
                                 root.real(), root.imag(), root.real(), std::abs(root.imag())));
  return Eigen::Map<const Roots>(found.data(), static_cast<Eigen::Index>(found.size()));
}

/// A fraction in one line, as "1 / (s² + 0.8 s + 4)", or nothing where that is long.
std::string in_a_line(const std::string& printed, bool discrete) {
  constexpr const char* raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  const std::vector<std::string> lines = split(printed, "\n");
  const auto side = [&](std::string text) {
    text.erase(0, text.find_first_not_of(' '));
    bool sum = false;  // outside of brackets
    int depth = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
      sum =
          sum || (depth == 0 && i > 0 && (text[i] == '+' || text[i] == '-') && text[i - 1] == ' ');
    }
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i)
      if (text[i] == '^')
        while (i + 1 < text.size() && std::isdigit(text[i + 1])) result += raised[text[++i] - '0'];
      else
        result += text[i] == 's' && discrete ? 'z' : text[i];
    return sum ? "(" + result + ")" : result;
  };
  if (lines.size() < 3 || lines[0].size() + lines[2].size() > 60) return {};
  return lines[2].find_first_not_of(" 1") == std::string::npos
             ? side(lines[0])
             : side(lines[0]) + " / " + side(lines[2]);
}

/// The matrices of a transfer function of either form.
template <class Transfer>
Plant of_transfer(const Transfer& transfer, const Given& given) {
  std::ostringstream text;
  text << transfer;
  const auto made = [&](const auto& system, const auto& A, const auto& B) {
    return Plant{A,
                 B,
                 system.C(),
                 system.D(),
                 given.discrete,
                 0,
                 in_a_line(text.str(), given.discrete.has_value())};
  };
  if (given.discrete) {
    const auto system = ssm::discrete_state_space(transfer, *given.discrete);
    return made(system, system.A_bar(), system.B_bar());
  }
  const auto system = ssm::state_space(transfer);
  return made(system, system.A(), system.B());
}

Plant of_coefficients(const Given& given) {
  if (!given.num) refuse("num", "is missing beside --den");
  const Eigen::VectorXd above = numbers("num", *given.num);
  const Eigen::VectorXd below = numbers("den", given.den.value_or("1"));
  const auto degree = [](const Eigen::VectorXd& p) {
    Eigen::Index first = 0;
    while (first < p.size() && p(first) == 0) ++first;
    return p.size() - 1 - first;
  };
  if (degree(below) < 0) refuse("den", "is 0, expected a coefficient that is not");
  if (degree(above) > degree(below))
    refuse("num", job::format("has degree %ld over one of %ld: an improper system, which answers a "
                              "step with an impulse and has no state space",
                              static_cast<long>(degree(above)), static_cast<long>(degree(below))));
  return of_transfer(ssm::TransferFunction<double>(above, below), given);
}

Plant of_roots(const Given& given) {
  const ssm::ZerosPolesGain<double> transfer{roots("zeros", given.zeros),
                                             roots("poles", given.poles), given.gain.value_or(1)};
  if (!std::isfinite(transfer.gain)) refuse("gain", "is not a finite number");
  if (transfer.zeros.size() > transfer.poles.size())
    refuse("zeros", job::format("are %ld over %ld poles: an improper system, which answers a step "
                                "with an impulse and has no state space",
                                static_cast<long>(transfer.zeros.size()),
                                static_cast<long>(transfer.poles.size())));
  return of_transfer(transfer, given);
}

Plant of_matrices(const Given& given) {
  for (const auto& [text, name] : {std::pair(&given.A, "A"), {&given.B, "B"}, {&given.C, "C"}})
    if (!*text)
      refuse(name, "is missing: a system has --A, --B and --C, and --D where it is not 0");
  Plant plant{matrix("A", *given.A), matrix("B", *given.B), matrix("C", *given.C), {}};
  plant.D = given.D ? matrix("D", *given.D) : Eigen::MatrixXd::Zero(plant.C.rows(), plant.B.cols());
  plant.delta = given.discrete;
  const auto check = [](const char* name, const Eigen::MatrixXd& m, Eigen::Index rows,
                        Eigen::Index columns, const char* why) {
    if (m.rows() != rows || m.cols() != columns)
      refuse(name, job::format("is %ld by %ld, expected %ld by %ld %s", static_cast<long>(m.rows()),
                               static_cast<long>(m.cols()), static_cast<long>(rows),
                               static_cast<long>(columns), why));
  };
  const Eigen::Index states = plant.A.rows();
  check("A", plant.A, states, states, "(square)");
  check("B", plant.B, states, plant.B.cols(), "(a row a state)");
  check("C", plant.C, plant.C.rows(), states, "(a column a state)");
  check("D", plant.D, plant.C.rows(), plant.B.cols(), "(the rows of C, the columns of B)");
  return plant;
}

/// A discrete system whose inputs wait for so many steps, in a chain of states each.
Plant delayed(const Plant& plant, Eigen::Index steps) {
  const Eigen::Index n = plant.A.rows(), m = plant.B.cols(), all = n + m * steps;
  Plant later{Eigen::MatrixXd::Zero(all, all),
              Eigen::MatrixXd::Zero(all, m),
              Eigen::MatrixXd::Zero(plant.C.rows(), all),
              Eigen::MatrixXd::Zero(plant.D.rows(), m),
              plant.delta,
              0,
              plant.transfer};
  later.A.topLeftCorner(n, n) = plant.A;
  later.A.block(0, n, n, m) = plant.B;  // the oldest input is the first after x
  for (Eigen::Index k = 1; k < steps; ++k)
    later.A.block(n + (k - 1) * m, n + k * m, m, m).setIdentity();
  later.B.bottomRows(m).setIdentity();
  later.C.leftCols(n) = plant.C;
  later.C.middleCols(n, m) = plant.D;
  return later;
}

}  // namespace

Plant read(const Given& given) {
  const bool coefficients = given.num || given.den,
             matrices = given.A || given.B || given.C || given.D;
  const bool factors = given.zeros || given.poles || given.gain;
  if (coefficients + matrices + factors != 1)
    throw std::runtime_error(
        "a system is --num and --den, or --zeros, --poles and --gain, or --A, --B, --C and --D" +
        std::string(coefficients + matrices + factors > 1 ? ": one of these three" : ""));
  Plant plant = coefficients ? of_coefficients(given)
                : factors    ? of_roots(given)
                             : of_matrices(given);
  if (!plant.delta) {
    plant.delay = given.delay;
    return plant;
  }
  const double steps = given.delay / *plant.delta, whole = std::round(steps);
  if (std::abs(steps - whole) > 1e-9 * std::max(1., steps))
    refuse("delay", job::format("is %g s, expected a whole number of steps of %g s", given.delay,
                                *plant.delta));
  if (whole > 200)
    refuse("delay", job::format("is %g steps, expected at most 200 in discrete time", whole));
  return whole > 0 ? delayed(plant, static_cast<Eigen::Index>(whole)) : plant;
}

}  // namespace plant
