#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "plot.hpp"

/// What the two forms of a plot share: the axes, and lines cut to what is shown.
namespace plot {

struct Tick {
  double value;
  std::string label;
};

struct Axis {
  Scale scale;
  double low, high;
  std::vector<Tick> ticks;    ///< labelled
  std::vector<double> minor;  ///< the others of a logarithmic axis

  /// Where a value lies between low, 0, and high, 1.
  [[nodiscard]] double position(double value) const {
    if (scale != Scale::logarithmic) return (value - low) / (high - low);
    return std::log(value / low) / std::log(high / low);
  }
};

inline bool is_line(Style style) {
  return style == Style::line || style == Style::dashes || style == Style::guide;
}

/// How many characters a text in UTF-8 has.
inline std::size_t length(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// 10 to a power, in digits while they are few.
inline std::string decade(int power) {
  if (power >= -3 && power <= 4) return number(std::pow(10, power), "%.10g");
  constexpr const char* raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = power < 0 ? "10⁻" : "10";
  for (const char digit : std::to_string(std::abs(power))) text += raised[digit - '0'];
  return text;
}

/// The round step of an axis of this length with about so many ticks.
inline double round_step(Scale scale, double span, int about) {
  const double raw = span / about;
  if (scale == Scale::degrees && raw > 5)
    for (const double step : {10., 15., 30., 45., 90., 180.})
      if (step >= raw * 0.999) return step;
  if (scale == Scale::degrees && raw > 180) return 360 * std::ceil(raw / 360);
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1., 2., 5.})
    if (factor * power >= raw * 0.999) return factor * power;
  return 10 * power;
}

/// A linear axis of a step: its ends moved out to ticks, or as they are.
inline Axis linear_axis(Scale scale, double low, double high, double step, bool round) {
  if (round) {
    low = step * std::floor(low / step + 1e-9);
    high = step * std::ceil(high / step - 1e-9);
  }
  Axis axis{scale, low, high, {}, {}};
  const double most = std::max(std::abs(low), std::abs(high));
  const int digits = std::clamp(static_cast<int>(std::ceil(std::log10(most / step))) + 1, 4, 15);
  const std::string format = "%." + std::to_string(digits) + "g";
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i)
    axis.ticks.push_back({i * step, number(i == 0 ? 0 : i * step, format.c_str())});
  return axis;
}

inline Axis logarithmic_axis(double low, double high, int about, bool round) {
  if (round && high / low > 10) {
    low = std::pow(10, std::floor(std::log10(low) + 1e-9));
    high = std::pow(10, std::ceil(std::log10(high) - 1e-9));
  }
  Axis axis{Scale::logarithmic, low, high, {}, {}};
  const double decades = std::log10(high / low);
  const int every = std::max(1, static_cast<int>(std::ceil(decades / about)));
  const int first = static_cast<int>(std::floor(std::log10(low)));
  for (int power = first; power <= std::log10(high) + 1e-9; ++power)
    for (int digit = 1; digit < 10; ++digit) {
      const double value = digit * std::pow(10, power);
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      const bool labelled = digit == 1     ? power % every == 0
                            : decades < .6 ? true
                                           : (digit == 2 || digit == 5) && decades < 2 && about > 4;
      if (labelled)
        axis.ticks.push_back({value, digit == 1 ? decade(power) : number(value)});
      else if (every == 1 || digit == 1)
        axis.minor.push_back(value);
    }
  return axis;
}

/// The axis of these values, with about so many ticks.
inline Axis axis_over(Scale scale, Range range, int about, bool round) {
  auto [low, high] = range;
  if (scale == Scale::logarithmic) {
    if (!(high > low)) low /= 2, high *= 2;
    return logarithmic_axis(low, high, about, round);
  }
  if (!(high - low > 1e-12 * std::max(std::abs(low), std::abs(high)))) {
    const double margin = std::max(std::abs(low), 1e-9) / 2;
    low -= margin;
    high += margin;
  }
  return linear_axis(scale, low, high, round_step(scale, high - low, about), round);
}

/// The finite values of some plots along one axis; of a logarithmic one, those above 0.
inline Range range_of(const std::vector<Plot>& plots, std::vector<double> Series::*values,
                      Scale scale) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Plot& plot : plots)
    for (const Series& series : plot.series) {
      if (series.style == Style::guide) continue;
      for (const double value : series.*values) {
        if (!std::isfinite(value) || (scale == Scale::logarithmic && value <= 0)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
    }
  if (low <= high) return {low, high};
  return scale == Scale::logarithmic ? Range{1, 10} : Range{0, 1};
}

struct Axes {
  Axis x, y;
};

/// Widens the shorter of two ranges until a unit is as long in both, on a ground of this shape.
inline void equalize(Range& x, Range& y, double width, double height) {
  const double unit = std::max({(x.high - x.low) / width, (y.high - y.low) / height, 1e-300});
  for (auto [range, size] : {std::pair(&x, width), std::pair(&y, height)}) {
    const double center = (range->low + range->high) / 2;
    *range = {center - unit * size / 2, center + unit * size / 2};
  }
}

/// The axes of one panel on a ground of `width` by `height`.
inline Axes axes_of(const Figure& figure, const Plot& plot, double width, double height,
                    int about_x, int about_y) {
  Range x =
      figure.panels.front().x_range.value_or(range_of(figure.panels, &Series::x, plot.x_scale));
  Range y = plot.y_range.value_or(range_of({plot}, &Series::y, plot.y_scale));
  if (!plot.equal)
    return {axis_over(plot.x_scale, x, about_x, !figure.panels.front().x_range),
            axis_over(plot.y_scale, y, about_y, !plot.y_range)};
  for (auto [range, given] : {std::pair(&x, plot.x_range), std::pair(&y, plot.y_range)}) {
    if (given) continue;  // some air around what is shown
    const double air = .05 * (range->high - range->low);
    *range = {range->low - air, range->high + air};
  }
  equalize(x, y, width, height);
  const double step = std::max(round_step(Scale::linear, x.high - x.low, about_x),
                               round_step(Scale::linear, y.high - y.low, about_y));
  return {linear_axis(plot.x_scale, x.low, x.high, step, false),
          linear_axis(plot.y_scale, y.low, y.high, step, false)};
}

/// A point of the ground: 0 to 1 from left to right and from the bottom to the top.
struct Point {
  double x, y;
};

inline Point place(const Axes& axes, double x, double y) {
  return {axes.x.position(x), axes.y.position(y)};
}

inline bool inside(const Point& p) {
  constexpr double edge = 1e-9;
  return p.x >= -edge && p.x <= 1 + edge && p.y >= -edge && p.y <= 1 + edge;
}

/// The part of a straight line from a to b on the ground (Liang & Barsky 1984); false if none is.
inline bool cut(Point& a, Point& b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  if (!std::isfinite(dx) || !std::isfinite(dy)) return false;
  double from = 0, to = 1;
  for (const auto& [step, room] :
       {std::pair(-dx, a.x), std::pair(dx, 1 - a.x), std::pair(-dy, a.y), std::pair(dy, 1 - a.y)}) {
    if (step == 0) {
      if (room < 0) return false;
    } else if (step < 0) {
      from = std::max(from, room / step);
    } else {
      to = std::min(to, room / step);
    }
  }
  if (from > to) return false;
  b = {a.x + to * dx, a.y + to * dy};
  a = {a.x + from * dx, a.y + from * dy};
  return true;
}

/// The parts of a line on the ground, each a row of points.
inline std::vector<std::vector<Point>> parts_of(const Axes& axes, const Series& series) {
  std::vector<std::vector<Point>> parts;
  bool open = false;
  for (std::size_t i = 1; i < series.x.size(); ++i) {
    Point a = place(axes, series.x[i - 1], series.y[i - 1]);
    Point b = place(axes, series.x[i], series.y[i]);
    const Point end = b, start = a;
    if (!cut(a, b)) {
      open = false;
      continue;
    }
    if (!open || a.x != start.x || a.y != start.y) parts.push_back({a});
    parts.back().push_back(b);
    open = b.x == end.x && b.y == end.y;
  }
  return parts;
}

}  // namespace plot
