#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <sys/ioctl.h>
#include <unistd.h>
#endif

/// Line plots of the examples, as text for a terminal and as an SVG image.
namespace plot {

enum class Style { line, dots };

struct Series {
  std::string name;
  Style style;
  std::vector<double> x, y;
};

struct Plot {
  std::string title;
  std::string x_label, y_label;  ///< with their units
  std::vector<Series> series;
};

/// The numbers low, low + step, … that an axis shows: round ones, about as many as asked for.
struct Axis {
  double low, high, step;

  [[nodiscard]] int ticks() const { return static_cast<int>(std::lround((high - low) / step)); }
  [[nodiscard]] double tick(int i) const {
    const double value = low + i * step;
    return std::abs(value) < step * 1e-6 ? 0 : value;
  }
  /// Where a value lies between low, 0, and high, 1.
  [[nodiscard]] double position(double value) const { return (value - low) / (high - low); }
};

inline Axis round_axis(double low, double high, int about) {
  if (!(high > low)) {
    const double margin = std::max(std::abs(low), 1e-9) / 2;
    low -= margin;
    high += margin;
  }
  const double raw = (high - low) / about;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {5., 2., 1.})
    if (factor * power >= raw * 0.999) step = factor * power;
  return {step * std::floor(low / step + 1e-9), step * std::ceil(high / step - 1e-9), step};
}

inline Axis axis_of(const Plot& plot, std::vector<double> Series::*values, int about) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Series& series : plot.series)
    for (const double value : series.*values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  return low <= high ? round_axis(low, high, about) : round_axis(0, 1, about);
}

inline std::string number(double value, const char* format = "%.4g") {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

/// The plot in characters: lines in Braille dots, eight to a character, and dots as circles.
inline std::string to_text(const Plot& plot, int width = 72, int height = 18) {
  const Axis x_axis = axis_of(plot, &Series::x, 6), y_axis = axis_of(plot, &Series::y, 4);
  const auto cells = static_cast<std::size_t>(width * height);
  std::vector<unsigned> braille(cells, 0);
  std::vector<char> circle(cells, 0);
  const auto cell = [&](int column, int row) {
    return static_cast<std::size_t>(row * width + column);
  };
  // Positions in Braille dots, two across and four down a character.
  const auto across = [&](double x) { return x_axis.position(x) * (2 * width - 1); };
  const auto down = [&](double y) { return (1 - y_axis.position(y)) * (4 * height - 1); };
  const auto mark = [&](double dots_across, double dots_down) {
    if (!std::isfinite(dots_across) || !std::isfinite(dots_down)) return;
    constexpr std::array<std::array<unsigned, 2>, 4> bits{
        {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    const auto i = static_cast<unsigned>(std::lround(dots_across));
    const auto j = static_cast<unsigned>(std::lround(dots_down));
    braille[cell(static_cast<int>(i / 2), static_cast<int>(j / 4))] |= bits[j % 4][i % 2];
  };
  for (const Series& series : plot.series)
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      const double x = across(series.x[i]), y = down(series.y[i]);
      if (series.style == Style::dots) {
        if (std::isfinite(x) && std::isfinite(y))
          circle[cell(static_cast<int>(std::lround(x)) / 2, static_cast<int>(std::lround(y)) / 4)] =
              1;
        continue;
      }
      const double from_x = i == 0 ? x : across(series.x[i - 1]);
      const double from_y = i == 0 ? y : down(series.y[i - 1]);
      const double length = std::max(std::abs(x - from_x), std::abs(y - from_y));
      const int steps = std::isfinite(length) ? static_cast<int>(std::ceil(length)) + 1 : 1;
      for (int s = 1; s <= steps; ++s)
        mark(from_x + (x - from_x) * s / steps, from_y + (y - from_y) * s / steps);
    }

  std::vector<std::string> labels(static_cast<std::size_t>(height));
  std::size_t margin = 0;
  for (int i = 0; i <= y_axis.ticks(); ++i) {
    const double value = y_axis.tick(i);
    const auto row = static_cast<std::size_t>(std::lround(down(value)) / 4);
    labels[row] = number(value);
    margin = std::max(margin, labels[row].size());
  }

  std::string text = std::string(margin + 2, ' ') + plot.title + "\n" +
                     std::string(margin + 2, ' ') + plot.y_label;
  for (const Series& series : plot.series)
    text += (series.style == Style::dots ? "   ● " : "   ⠤ ") + series.name;
  text += "\n";
  for (int row = 0; row < height; ++row) {
    const std::string& label = labels[static_cast<std::size_t>(row)];
    text += std::string(margin - label.size() + 1, ' ') + label + (label.empty() ? "│" : "┤");
    for (int column = 0; column < width; ++column) {
      const unsigned dots = braille[cell(column, row)];
      if (circle[cell(column, row)] != 0) {
        text += "●";
      } else if (dots == 0) {
        text += ' ';
      } else {  // U+2800 + dots in UTF-8
        text += static_cast<char>(0xE2);
        text += static_cast<char>(0xA0 + (dots >> 6));
        text += static_cast<char>(0x80 + (dots & 0x3F));
      }
    }
    text += "\n";
  }

  std::string line(margin + 1, ' '), under(margin + 2 + static_cast<std::size_t>(width), ' ');
  std::vector<bool> tick_at(static_cast<std::size_t>(width), false);
  for (int i = 0; i <= x_axis.ticks(); ++i) {
    const auto column = static_cast<std::size_t>(std::lround(across(x_axis.tick(i))) / 2);
    const std::string label = number(x_axis.tick(i));
    tick_at[column] = true;
    const std::size_t at = margin + 2 + column - label.size() / 2;
    if (under.size() < at + label.size()) under.resize(at + label.size(), ' ');
    under.replace(at, label.size(), label);
  }
  line += "└";
  for (const bool tick : tick_at) line += tick ? "┬" : "─";
  return text + line + "\n" + under + "  " + plot.x_label + "\n";
}

inline std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else
      result += c;
  }
  return result;
}

/// The plot as an SVG document of 800 × 450 on a light ground.
inline std::string to_svg(const Plot& plot) {
  constexpr double width = 800, height = 450, left = 78, right = 24, top = 72, bottom = 58;
  constexpr std::array colors{"#1f6feb", "#d1495b", "#2a9d5c", "#8a5cd1", "#c98a12"};
  const Axis x_axis = axis_of(plot, &Series::x, 10), y_axis = axis_of(plot, &Series::y, 6);
  const auto across = [&](double x) {
    return number(left + x_axis.position(x) * (width - left - right), "%.2f");
  };
  const auto down = [&](double y) {
    return number(height - bottom - y_axis.position(y) * (height - top - bottom), "%.2f");
  };
  const auto text = [](const std::string& x, const std::string& y, const std::string& anchor,
                       const std::string& content, const std::string& more = "") {
    return "<text x=\"" + x + "\" y=\"" + y + "\" text-anchor=\"" + anchor + "\"" + more + ">" +
           escaped(content) + "</text>\n";
  };
  const auto line = [](const std::string& x1, const std::string& y1, const std::string& x2,
                       const std::string& y2, const std::string& color) {
    return "<line x1=\"" + x1 + "\" y1=\"" + y1 + "\" x2=\"" + x2 + "\" y2=\"" + y2 +
           "\" stroke=\"" + color + "\"/>\n";
  };
  const std::string x_low = number(left), x_high = number(width - right);
  const std::string y_low = number(height - bottom), y_high = number(top);

  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 450\" width=\"800\" "
      "height=\"450\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" "
      "fill=\"#333\">\n<rect width=\"800\" height=\"450\" fill=\"#fdfdfb\"/>\n";
  svg += text(x_low, "28", "start", plot.title, " font-size=\"17\" font-weight=\"600\"");
  for (int i = 0; i <= x_axis.ticks(); ++i) {
    const std::string x = across(x_axis.tick(i));
    svg += line(x, y_low, x, y_high, "#e4e4de");
    svg += text(x, number(height - bottom + 20), "middle", number(x_axis.tick(i)));
  }
  for (int i = 0; i <= y_axis.ticks(); ++i) {
    const std::string y = down(y_axis.tick(i));
    svg += line(x_low, y, x_high, y, "#e4e4de");
    svg +=
        text(number(left - 9), y, "end", number(y_axis.tick(i)), " dominant-baseline=\"middle\"");
  }
  svg += line(x_low, y_low, x_high, y_low, "#555") + line(x_low, y_low, x_low, y_high, "#555");
  svg += text(number((left + width - right) / 2), number(height - 14), "middle", plot.x_label);
  svg +=
      text("0", "0", "middle", plot.y_label,
           " transform=\"translate(20 " + number((top + height - bottom) / 2) + ") rotate(-90)\"");

  double legend = left;
  for (std::size_t s = 0; s < plot.series.size(); ++s) {
    const Series& series = plot.series[s];
    const std::string color = colors[s % colors.size()];
    if (series.style == Style::line) {
      svg += "<polyline fill=\"none\" stroke=\"" + color +
             "\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"";
      for (std::size_t i = 0; i < series.x.size(); ++i)
        if (std::isfinite(series.x[i]) && std::isfinite(series.y[i]))
          svg += across(series.x[i]) + "," + down(series.y[i]) + " ";
      svg += "\"/>\n<line x1=\"" + number(legend) + "\" y1=\"50\" x2=\"" + number(legend + 24) +
             "\" y2=\"50\" stroke=\"" + color + "\" stroke-width=\"2\"/>\n";
    } else {
      svg += "<g fill=\"" + color + "\">\n";
      for (std::size_t i = 0; i < series.x.size(); ++i)
        if (std::isfinite(series.x[i]) && std::isfinite(series.y[i]))
          svg += "<circle cx=\"" + across(series.x[i]) + "\" cy=\"" + down(series.y[i]) +
                 "\" r=\"3\"/>\n";
      svg += "<circle cx=\"" + number(legend + 12) + "\" cy=\"50\" r=\"3.5\"/>\n</g>\n";
    }
    svg += text(number(legend + 31), "50", "start", series.name, " dominant-baseline=\"middle\"");
    legend += 52 + 7.0 * static_cast<double>(series.name.size());
  }
  return svg + "</svg>\n";
}

/// How many columns a plot may take with its margin: those of the terminal, or else 80.
inline int columns() {
#if !defined(_WIN32)
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
#endif
  return 80;
}

/// Prints a plot, and writes it to an SVG file unless `svg` is empty. Throws std::runtime_error.
inline void show(const Plot& plot, const std::string& svg) {
  std::printf("\n%s\n", to_text(plot, std::clamp(columns() - 8, 24, 72)).c_str());
  if (svg.empty()) return;
  std::ofstream file(svg);
  file << to_svg(plot);
  file.close();
  if (!file) throw std::runtime_error("cannot write " + svg);
  std::printf("wrote %s\n", svg.c_str());
}

}  // namespace plot
