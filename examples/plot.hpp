#pragma once

#include <array>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#if !defined(_WIN32)
#include <sys/ioctl.h>
#include <unistd.h>
#endif

/// Plots of the examples, as text for a terminal and as an SVG image.
namespace plot {

/// A line, or a mark at each point. Guides are thin and grey and make no axis wider. A point that
/// is not finite ends a line; a line of one point is not seen, but makes the axes reach it.
enum class Style { line, dashes, guide, dots, crosses, rings, plus };

struct Series {
  std::string name;  ///< in the legend unless empty
  Style style;
  std::vector<double> x, y;
  int color = -1;                        ///< that of the series of this number, else its own
  std::vector<std::size_t> arrows = {};  ///< points at which a line shows where it goes
};

/// How an axis is divided: into round numbers, decades, or parts of a turn in degrees.
enum class Scale { linear, logarithmic, degrees };

struct Range {
  double low, high;
};

/// Words at a point, put where they hide nothing.
struct Note {
  double x, y;
  std::string text;
};

struct Plot {
  std::string title;
  std::string x_label, y_label;  ///< with their units
  std::vector<Series> series;
  Scale x_scale = Scale::linear, y_scale = Scale::linear;
  std::optional<Range> x_range = {}, y_range = {};  ///< what is shown, else everything
  bool equal = false;                               ///< a unit is as long across as upwards
  std::vector<Note> notes = {};
};

/// Plots one above the other over one axis, which is labelled below the last. The first has the
/// title.
struct Figure {
  std::vector<Plot> panels;
  Figure(Plot plot) : panels{std::move(plot)} {}  // NOLINT(google-explicit-constructor)
  explicit Figure(std::vector<Plot> all) : panels(std::move(all)) {}
};

/// In characters: lines in Braille dots, eight to a character, and marks; notes below.
std::string to_text(const Figure& figure, int width = 72);

/// An SVG document 800 wide on a light ground.
std::string to_svg(const Figure& figure);

/// Prints a figure, and writes it to an SVG file unless `svg` is empty. Throws std::runtime_error.
void show(const Figure& figure, const std::string& svg);
inline void show(const Plot& plot, const std::string& svg) { show(Figure(plot), svg); }

inline std::string number(double value, const char* format = "%.4g") {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
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

/// How many columns a plot may take with its margin: those of the terminal, or else 80.
inline int columns() {
#if !defined(_WIN32)
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
#endif
  return 80;
}

}  // namespace plot
