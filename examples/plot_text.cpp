#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "plot_axes.hpp"

namespace plot {
namespace {

/// Characters of a ground: Braille dots, two across and four down each, and marks before them.
struct Canvas {
  int width, height;
  std::vector<unsigned> braille;
  std::vector<std::string> marks;

  Canvas(int across, int down)
      : width(across),
        height(down),
        braille(static_cast<std::size_t>(across * down), 0),
        marks(braille.size()) {}

  [[nodiscard]] double column(double x) const { return x * (2 * width - 1); }
  [[nodiscard]] double row(double y) const { return (1 - y) * (4 * height - 1); }
  [[nodiscard]] std::size_t cell(long across, long down) const {
    return static_cast<std::size_t>(down / 4 * width + across / 2);
  }

  void dot(double across, double down) {
    constexpr std::array<std::array<unsigned, 2>, 4> bits{
        {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    const long i = std::lround(across), j = std::lround(down);
    braille[cell(i, j)] |= bits[static_cast<std::size_t>(j % 4)][static_cast<std::size_t>(i % 2)];
  }
  void mark(const Point& p, const char* what) {
    if (inside(p)) marks[cell(std::lround(column(p.x)), std::lround(row(p.y)))] = what;
  }
  /// A straight line; `every` so many dots one, where it is a guide.
  void line(const Point& a, const Point& b, int every) {
    const double from_x = column(a.x), from_y = row(a.y);
    const double x = column(b.x) - from_x, y = row(b.y) - from_y;
    const int steps = static_cast<int>(std::ceil(std::max(std::abs(x), std::abs(y)))) + 1;
    for (int s = 0; s <= steps; s += every) dot(from_x + x * s / steps, from_y + y * s / steps);
  }

  [[nodiscard]] std::string text(int down) const {
    std::string line;
    for (int across = 0; across < width; ++across) {
      const std::size_t at = cell(2 * across, 4 * down);
      const unsigned dots = braille[at];
      if (!marks[at].empty()) {
        line += marks[at];
      } else if (dots == 0) {
        line += ' ';
      } else {  // U+2800 + dots in UTF-8
        line += static_cast<char>(0xE2);
        line += static_cast<char>(0xA0 + (dots >> 6));
        line += static_cast<char>(0x80 + (dots & 0x3F));
      }
    }
    return line;
  }
};

const char* mark_of(Style style) {
  switch (style) {
    case Style::dots:
      return "●";
    case Style::crosses:
      return "×";
    case Style::rings:
      return "○";
    case Style::plus:
      return "+";
    case Style::guide:
      return "⠂";
    default:
      return "⠤";
  }
}

/// Where a line goes, on a ground of this shape.
const char* arrow(const Point& from, const Point& to, double width, double height) {
  constexpr const char* arrows[] = {"→", "↗", "↑", "↖", "←", "↙", "↓", "↘"};
  const double angle = std::atan2((to.y - from.y) * height, (to.x - from.x) * width);
  return arrows[(std::lround(angle / .7853981633974483) + 8) % 8];
}

void draw(const Axes& axes, const Series& series, Canvas& canvas) {
  if (!is_line(series.style)) {
    for (std::size_t i = 0; i < series.x.size(); ++i)
      canvas.mark(place(axes, series.x[i], series.y[i]), mark_of(series.style));
    return;
  }
  for (const std::vector<Point>& part : parts_of(axes, series))
    for (std::size_t i = 1; i < part.size(); ++i)
      canvas.line(part[i - 1], part[i], series.style == Style::guide ? 4 : 1);
  for (const std::size_t at : series.arrows) {
    const std::size_t from = at == 0 ? 0 : at - 1;
    const Point a = place(axes, series.x[from], series.y[from]);
    const Point b = place(axes, series.x[from + 1], series.y[from + 1]);
    canvas.mark(b, arrow(a, b, 2. * canvas.width, 4. * canvas.height));
  }
}

/// The ticks below the last panel, and their labels with a space between each two.
std::string below(const Axis& axis, const Canvas& canvas, std::size_t margin,
                  const std::string& label) {
  const std::size_t width = static_cast<std::size_t>(canvas.width);
  std::vector<bool> tick_at(width, false);
  std::string under;
  std::size_t filled = 0;
  for (const Tick& tick : axis.ticks) {
    const auto column =
        static_cast<std::size_t>(std::lround(canvas.column(axis.position(tick.value))) / 2);
    tick_at[column] = true;
    const std::size_t size = length(tick.label), at = margin + 2 + column - size / 2;
    if (filled > 0 && at <= filled) continue;
    under += std::string(at - filled, ' ') + tick.label;
    filled = at + size;
  }
  std::string line(margin + 1, ' ');
  line += "└";
  for (const bool tick : tick_at) line += tick ? "┬" : "─";
  const std::size_t end = margin + 2 + width;
  return line + "\n" + under + std::string(filled < end ? end - filled : 0, ' ') + "  " + label +
         "\n";
}

}  // namespace

std::string to_text(const Figure& figure, int width) {
  const bool alone = figure.panels.size() == 1;
  const int height = !alone ? 12 : figure.panels[0].equal ? 24 : 18;
  std::vector<Axes> axes;
  std::vector<std::vector<std::string>> labels;
  std::size_t margin = 0;
  for (const Plot& plot : figure.panels) {
    axes.push_back(axes_of(figure, plot, 2 * width, 4 * height, 6, alone ? 4 : 3));
    labels.emplace_back(static_cast<std::size_t>(height));
    for (const Tick& tick : axes.back().y.ticks) {
      const double down = (1 - axes.back().y.position(tick.value)) * (4 * height - 1);
      labels.back()[static_cast<std::size_t>(std::lround(down)) / 4] = tick.label;
      margin = std::max(margin, length(tick.label));
    }
  }
  const std::string indent(margin + 2, ' ');
  std::string text = indent + figure.panels.front().title + "\n";
  for (std::size_t p = 0; p < figure.panels.size(); ++p) {
    const Plot& plot = figure.panels[p];
    Canvas canvas(width, height);
    for (const Series& series : plot.series) draw(axes[p], series, canvas);
    text += indent + plot.y_label;
    for (const Series& series : plot.series)
      if (!series.name.empty())
        text += std::string("   ") + mark_of(series.style) + " " + series.name;
    text += "\n";
    for (int row = 0; row < height; ++row) {
      const std::string& label = labels[p][static_cast<std::size_t>(row)];
      text += std::string(margin - length(label) + 1, ' ') + label + (label.empty() ? "│" : "┤") +
              canvas.text(row) + "\n";
    }
    if (p + 1 == figure.panels.size()) text += below(axes[p].x, canvas, margin, plot.x_label);
  }
  for (const Plot& plot : figure.panels)
    for (const Note& note : plot.notes)
      if (inside(
              place(axes[static_cast<std::size_t>(&plot - figure.panels.data())], note.x, note.y)))
        text += indent + note.text + "\n";
  return text;
}

void show(const Figure& figure, const std::string& svg) {
  std::printf("\n%s\n", to_text(figure, std::clamp(columns() - 8, 24, 72)).c_str());
  if (svg.empty()) return;
  std::ofstream file(svg);
  file << to_svg(figure);
  file.close();
  if (!file) throw std::runtime_error("cannot write " + svg);
  std::printf("wrote %s\n", svg.c_str());
}

}  // namespace plot
