#pragma once

#include <complex>
#include <optional>
#include <string>
#include <vector>

#include "plot.hpp"

/// The pictures of `plant`, from what the library computes.
namespace plant {

using Complex = std::complex<double>;
using Points = std::vector<Complex>;

/// How frequencies are told.
struct Frequencies {
  bool hertz = false;
  [[nodiscard]] double operator()(double omega) const {
    return hertz ? omega / 6.283185307179586 : omega;
  }
  [[nodiscard]] const char* unit() const { return hertz ? "Hz" : "rad/s"; }
};

struct Response {
  std::vector<double> omega;  ///< rad/s, increasing
  Points value;               ///< G at each
  std::vector<double> phase;  ///< its angle, deg, continuous over ω
};

/// A frequency at which the curve of G crosses the unit circle, or the negative real axis.
struct Crossing {
  double omega, gain, phase;  ///< rad/s, |G|, deg
  std::string margin, where;  ///< in words
};

struct Crossings {
  std::vector<Crossing> gain, phase;  ///< where a gain margin is read, and a phase margin
};

plot::Figure bode(const std::string& name, const Response& response, const Crossings& crossings,
                  Frequencies unit);

plot::Figure nyquist(const std::string& name, const Response& response, const Crossings& crossings,
                     Frequencies unit);

/// The answer to a unit step at t = 0.
struct Step {
  std::vector<double> time, output;   ///< s, from 0 on
  std::optional<double> final_value;  ///< where it settles
  std::vector<plot::Note> notes;      ///< its figures, each at a point of the curve
  bool sampled = false;               ///< discrete: the output stays from sample to sample
};
plot::Figure step(const std::string& name, const Step& step);

/// The poles and zeros of a plane, s or z, and the frequencies of its grid.
struct Roots {
  Points poles, zeros;
  std::optional<double> delta;  ///< of a discrete system, s
};
plot::Figure map(const std::string& name, const Roots& roots, Frequencies unit);

/// Where the poles of G k / (1 + G k) go while k grows from 0.
struct Locus {
  std::vector<Points> branches;
  std::vector<plot::Note> notes;
};
plot::Figure locus(const std::string& name, const Roots& roots, const Locus& locus);

}  // namespace plant
