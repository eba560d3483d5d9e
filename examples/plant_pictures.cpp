#include "plant_pictures.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "job.hpp"

namespace plant {
namespace {

using plot::Plot, plot::Scale, plot::Series, plot::Style;

constexpr double pi = 3.141592653589793, degrees = 180 / pi;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double decibels(double gain) { return 20 * std::log10(gain); }

void add(Series& series, double x, double y) {
  series.x.push_back(x);
  series.y.push_back(y);
}
void add(Series& series, const Complex& point) { add(series, point.real(), point.imag()); }

/// A straight line that stands in no legend.
Series straight(double x1, double y1, double x2, double y2) {
  return {"", Style::guide, {x1, x2}, {y1, y2}};
}

/// The finite ones of some values, from end to end.
plot::Range span_of(const std::vector<double>& values) {
  plot::Range range{std::numeric_limits<double>::infinity(), 0};
  range.high = -range.low;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    range.low = std::min(range.low, value);
    range.high = std::max(range.high, value);
  }
  if (range.low > range.high) range = {0, 1};
  return range;
}

/// Makes the axes reach a point.
Series reach(double x, double y) { return {"", Style::line, {x}, {y}}; }

/// The odd multiple of 180° that a phase margin is measured from.
double half_turn(double phase) { return 360 * std::round((phase + 180) / 360) - 180; }

}  // namespace

plot::Figure bode(const std::string& name, const Response& response, const Crossings& crossings,
                  Frequencies unit) {
  Series gain{"", Style::line, {}, {}, 0}, phase{"", Style::line, {}, {}, 0};
  for (std::size_t i = 0; i < response.omega.size(); ++i) {
    add(gain, unit(response.omega[i]), decibels(std::abs(response.value[i])));
    add(phase, unit(response.omega[i]), response.phase[i]);
  }
  const plot::Range across{gain.x.front(), gain.x.back()};
  const std::string axis = std::string("frequency (") + unit.unit() + ")";
  Plot above{"Bode plot of " + name, axis, "gain (dB)", {}};
  Plot below{"", axis, "phase (deg)", {}};
  above.x_scale = below.x_scale = Scale::logarithmic;
  above.x_range = across;
  below.y_scale = Scale::degrees;
  std::set<double> turns;
  for (const Crossing& crossing : crossings.gain) turns.insert(half_turn(crossing.phase));
  for (const Crossing& crossing : crossings.phase) turns.insert(half_turn(crossing.phase));
  if (!turns.empty()) {
    above.series.push_back(straight(across.low, 0, across.high, 0));
    for (const double height : {-9., 9.}) above.series.push_back(reach(across.low, height));
  }
  for (const double turn : turns) {
    below.series.push_back(straight(across.low, turn, across.high, turn));
    below.series.push_back(reach(across.low, turn));
  }
  plot::Range angles = span_of(phase.y);
  if (angles.high - angles.low < 20)
    for (const double off : {-20., 20.})
      below.series.push_back(reach(across.low, angles.low + off));
  above.series.push_back(gain);
  below.series.push_back(phase);
  Series gains{"", Style::line, {}, {}, 1}, phases{"", Style::line, {}, {}, 1};
  Series gain_points{"", Style::dots, {}, {}, 1}, phase_points{"", Style::dots, {}, {}, 1};
  for (const Crossing& crossing : crossings.gain) {
    const double x = unit(crossing.omega), height = decibels(crossing.gain);
    for (const double y : {0., height, nan}) add(gains, x, y);
    add(gain_points, x, height);
    add(phase_points, x, crossing.phase);
    below.series.push_back(straight(x, 1e6, x, crossing.phase));
    above.notes.push_back({x, height, crossing.margin + " at " + crossing.where});
  }
  for (const Crossing& crossing : crossings.phase) {
    const double x = unit(crossing.omega),
                 turn = 360 * std::round((crossing.phase + 180) / 360) - 180;
    for (const double y : {turn, crossing.phase, nan}) add(phases, x, y);
    add(phase_points, x, crossing.phase);
    add(gain_points, x, 0);
    above.series.push_back(straight(x, 0, x, -1e6));
    below.series.push_back(straight(x, 1e6, x, crossing.phase));
    below.notes.push_back({x, crossing.phase, crossing.margin + " at " + crossing.where});
  }
  above.series.insert(above.series.end(), {gains, gain_points});
  below.series.insert(below.series.end(), {phases, phase_points});
  return plot::Figure({above, below});
}

plot::Figure nyquist(const std::string& name, const Response& response, const Crossings& crossings,
                     Frequencies unit) {
  Series curve{"ω > 0", Style::line, {}, {}, 0}, mirror{"ω < 0", Style::dashes, {}, {}, 0};
  double largest = 0;
  for (const Complex& value : response.value) {
    add(curve, value);
    add(mirror, std::conj(value));
    if (std::isfinite(std::abs(value))) largest = std::max(largest, std::abs(value));
  }
  // Where the curve is large, what is near −1 counts: a loop is judged there.
  double radius = 1.1 * std::max(largest, 1e-9);
  if (largest > 8) {
    radius = 3;
    for (const auto* kind : {&crossings.gain, &crossings.phase})
      for (const Crossing& crossing : *kind)
        radius = std::max(radius, std::min(1.3 * crossing.gain, 8.));
  }
  plot::Range across{0, .1 * radius};
  double tall = .4 * radius;
  for (const Complex& value : response.value) {
    if (!(std::abs(value) <= radius)) continue;
    across.low = std::min(across.low, 1.1 * value.real());
    across.high = std::max(across.high, 1.1 * value.real());
    tall = std::max(tall, 1.1 * std::abs(value.imag()));
  }
  if (largest > .2) {  // else −1 is far away, and the curve itself is shown
    across.low = std::min(across.low, -1.6);
    tall = std::max(tall, largest > 8 ? 2 : 1.1);
    across.high = std::max(across.high, .4);
  }
  const plot::Range up{-tall, tall};
  // Arrows at equal lengths along what is shown.
  const auto shown = [&](std::size_t i) {
    const Complex& v = response.value[i];
    return v.real() > across.low && v.real() < across.high && std::abs(v.imag()) < up.high;
  };
  double whole = 0;
  for (std::size_t i = 1; i < response.value.size(); ++i)
    if (shown(i) && shown(i - 1)) whole += std::abs(response.value[i] - response.value[i - 1]);
  double run = 0, next = whole / 8;
  for (std::size_t i = 1; i < response.value.size() && whole > 0; ++i) {
    if (!shown(i) || !shown(i - 1)) continue;
    run += std::abs(response.value[i] - response.value[i - 1]);
    if (run < next) continue;
    curve.arrows.push_back(i);
    next += whole / 3;
  }
  Series circle{"unit circle", Style::guide, {}, {}};
  for (int i = 0; i <= 120; ++i) add(circle, std::polar(1., i * pi / 60));
  Series critical{"−1", Style::plus, {-1}, {0}, 1};
  Series points{"", Style::dots, {}, {}, 1};
  Plot plot{
      "Nyquist plot of " + name,
      "real part of G",
      "imaginary part of G",
      {straight(-1e9, 0, 1e9, 0), straight(0, -1e9, 0, 1e9), circle, curve, mirror, critical}};
  for (const auto* kind : {&crossings.gain, &crossings.phase})
    for (const Crossing& crossing : *kind) {
      const Complex at = std::polar(crossing.gain, crossing.phase / degrees);
      add(points, at);
      plot.notes.push_back({at.real(), at.imag(), crossing.margin});
    }
  plot.x_range = across;
  plot.y_range = up;
  plot.equal = true;
  if (whole == 0 && !response.value.empty()) add(points, response.value.front());  // a gain
  if (!shown(0))
    for (std::size_t i = 1; i < response.value.size(); ++i)
      if (shown(i)) {
        plot.notes.push_back({response.value[i].real(), response.value[i].imag(),
                              job::format("from |G| = %.3g at %.3g %s", std::abs(response.value[0]),
                                          unit(response.omega[0]), unit.unit())});
        break;
      }
  plot.series.push_back(points);
  return plot;
}

plot::Figure step(const std::string& name, const Step& step) {
  Series output{"", Style::line, {}, {}, 0}, samples{"", Style::dots, {}, {}, 0};
  if (!step.output.empty() && step.output.front() != 0) add(output, 0, 0);
  const bool few = step.sampled && step.time.size() <= 150;
  for (std::size_t i = 0; i < step.time.size(); ++i) {
    if (step.sampled && i > 0) add(output, step.time[i], step.output[i - 1]);
    add(output, step.time[i], step.output[i]);
    if (few) add(samples, step.time[i], step.output[i]);
  }
  Plot plot{"Step response of " + name, "time t (s)", "output y", {output, samples}};
  plot.x_range = plot::Range{0, step.time.back()};
  Series points{"", Style::dots, {}, {}, 1};
  if (step.final_value) {
    const double end = *step.final_value;
    for (const double part : {.98, 1., 1.02})
      plot.series.push_back(straight(0, part * end, step.time.back(), part * end));
  }
  for (const plot::Note& note : step.notes) add(points, note.x, note.y);
  plot.notes = step.notes;
  plot.series.push_back(points);
  return plot;
}

namespace {

/// What is worth seeing of a plane: some points of it and the origin, with air around them, in the
/// shape of the picture. More of the left half is seen than of the right.
void set_ranges(Plot& plot, const Points& points, bool discrete, double air) {
  std::vector<double> real{0}, imaginary{0};
  if (discrete) real = imaginary = {-1, 1};
  for (const Complex& point : points) {
    real.push_back(point.real());
    imaginary.push_back(std::abs(point.imag()));
  }
  plot::Range across = span_of(real);
  const double up = span_of(imaginary).high;
  const double size = std::max({across.high - across.low, 2 * up, 1e-9});
  const double room = size > 1e-9 ? air * size : 1;
  double height = up + room / 2;
  across = {across.low - room, across.high + room};
  constexpr double lowest = 320. / 698, highest = 560. / 698;
  height = std::max(height, lowest * (across.high - across.low) / 2);
  const double missing = std::max(0., 2 * height / highest - (across.high - across.low));
  const double left = discrete ? .5 : .75;
  plot.x_range = plot::Range{across.low - left * missing, across.high + (1 - left) * missing};
  plot.y_range = plot::Range{-height, height};
  plot.equal = true;
}

/// Lines of equal damping, and the edge of what is stable.
void add_grid(Plot& plot, const std::optional<double>& delta) {
  const plot::Range &x = *plot.x_range, &y = *plot.y_range;
  const double far = 4 * (std::abs(x.low) + std::abs(x.high) + std::abs(y.low) + std::abs(y.high));
  if (!delta) {
    plot.series.push_back(straight(0, -far, 0, far));
    plot.series.push_back(straight(-far, 0, far, 0));
  } else {
    Series circle{"unit circle", Style::guide, {}, {}};
    for (int i = 0; i <= 180; ++i) add(circle, std::polar(1., i * pi / 90));
    plot.series.push_back(circle);
    plot.series.push_back(straight(-far, 0, far, 0));
  }
  for (const double damping : {.2, .4, .6, .8}) {
    const double across = -damping, up = std::sqrt(1 - damping * damping);
    for (const double side : {1., -1.}) {
      Series ray{"", Style::guide, {}, {}};
      if (!delta) {
        add(ray, 0, 0);
        add(ray, far * across, far * side * up);
      } else {
        for (int i = 0; i <= 60; ++i)
          add(ray, std::exp(Complex(across, side * up) * (pi / up * i / 60)));
      }
      plot.series.push_back(ray);
    }
    const std::string words = job::format("ζ %.1f", damping);
    if (delta) {
      const Complex at = std::exp(Complex(across, up) * (.62 * pi / up));
      plot.notes.push_back({at.real(), at.imag(), words});
    } else if (x.low < 0) {
      const double reach = .93 * std::min(x.low / across, y.high / up);
      plot.notes.push_back({reach * across, reach * up, words});
    }
  }
}

Points all_of(const Roots& roots) {
  Points points = roots.poles;
  points.insert(points.end(), roots.zeros.begin(), roots.zeros.end());
  return points;
}

Plot plane(const std::string& title, const Roots& roots) {
  return {title,
          roots.delta ? "real part of z" : "real part of s (1/s)",
          roots.delta ? "imaginary part of z" : "imaginary part of s (1/s)",
          {}};
}

void add_roots(Plot& plot, const Roots& roots) {
  Series poles{"poles", Style::crosses, {}, {}, 1}, zeros{"zeros", Style::rings, {}, {}, 0};
  for (const Complex& pole : roots.poles) add(poles, pole);
  for (const Complex& zero : roots.zeros) add(zeros, zero);
  if (zeros.x.empty()) zeros.name.clear();
  if (poles.x.empty()) poles.name.clear();
  plot.series.insert(plot.series.end(), {zeros, poles});
}

}  // namespace

plot::Figure map(const std::string& name, const Roots& roots, Frequencies unit) {
  Plot plot = plane("Poles and zeros of " + name, roots);
  set_ranges(plot, all_of(roots), roots.delta.has_value(), .2);
  std::vector<plot::Note> notes;
  for (auto at = roots.poles.begin(); at != roots.poles.end(); ++at) {
    const Complex pole = *at;
    const auto same = [&](const Complex& other) {
      return std::abs(other - pole) <= 1e-5 * std::max(std::abs(pole), 1e-9);
    };
    const auto often = std::count_if(roots.poles.begin(), roots.poles.end(), same);
    if (pole.imag() < 0 || roots.poles.size() > 16 || std::any_of(roots.poles.begin(), at, same))
      continue;
    const Complex rate = roots.delta ? std::log(pole) / *roots.delta : pole;
    const double frequency = std::abs(rate);
    if (!std::isfinite(frequency)) continue;
    std::string words = job::format("%.3g %s", unit(frequency), unit.unit());
    if (pole.imag() > 0) words = job::format("ζ %.3g, ", -rate.real() / frequency) + words;
    if (!(frequency > 0)) words = "at rest";
    if (often > 1) words = job::format("%ld poles: ", static_cast<long>(often)) + words;
    notes.push_back({pole.real(), pole.imag(), words});
  }
  add_grid(plot, roots.delta);
  plot.notes.insert(plot.notes.begin(), notes.begin(), notes.end());
  add_roots(plot, roots);
  return plot;
}

plot::Figure locus(const std::string& name, const Roots& roots, const Locus& locus) {
  Plot plot = plane("Root locus of " + name, roots);
  Points seen = all_of(roots);
  for (const plot::Note& note : locus.notes) seen.emplace_back(note.x, note.y);
  set_ranges(plot, seen, roots.delta.has_value(), .5);
  add_grid(plot, roots.delta);
  Series points{"", Style::dots, {}, {}, 3};
  for (const plot::Note& note : locus.notes) add(points, note.x, note.y);
  bool first = true;
  for (const Points& branch : locus.branches) {
    Series line{first ? "poles of the closed loop" : "", Style::line, {}, {}, 2};
    for (const Complex& point : branch) add(line, point);
    plot.series.push_back(line);
    first = false;
  }
  plot.notes.insert(plot.notes.begin(), locus.notes.begin(), locus.notes.end());
  add_roots(plot, roots);
  plot.series.push_back(points);
  return plot;
}

}  // namespace plant
