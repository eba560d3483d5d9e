#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "plot_axes.hpp"

namespace plot {
namespace {

constexpr double width = 800, left = 78, right = 24, bottom = 58, between = 28;
constexpr double ground_width = width - left - right;
constexpr std::array colors{"#1f6feb", "#d1495b", "#2a9d5c", "#8a5cd1", "#c98a12"};

/// Of a position in an image.
std::string at(double value) { return number(value, "%.2f"); }

std::string text_at(double x, double y, const std::string& anchor, const std::string& content,
                    const std::string& more = "") {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\"" +
         more + ">" + escaped(content) + "</text>\n";
}
std::string line_at(double x1, double y1, double x2, double y2, const std::string& color,
                    const std::string& more = "") {
  return "<line x1=\"" + at(x1) + "\" y1=\"" + at(y1) + "\" x2=\"" + at(x2) + "\" y2=\"" + at(y2) +
         "\" stroke=\"" + color + "\"" + more + "/>\n";
}

std::string color_of(const Plot& plot, std::size_t series) {
  if (plot.series[series].style == Style::guide) return "#a3a39b";
  const int chosen = plot.series[series].color;
  return colors[(chosen < 0 ? series : static_cast<std::size_t>(chosen)) % colors.size()];
}

/// About as wide as a text is drawn.
double width_of(const std::string& text, double size) {
  return .54 * size * static_cast<double>(length(text));
}

struct Box {
  double x, y, width, height;
};
double overlap(const Box& a, const Box& b) {
  return std::max(0., std::min(a.x + a.width, b.x + b.width) - std::max(a.x, b.x)) *
         std::max(0., std::min(a.y + a.height, b.y + b.height) - std::max(a.y, b.y));
}

/// One plot where it stands in the image.
struct Panel {
  const Plot& plot;
  Axes axes;
  Box ground;

  [[nodiscard]] double across(double x) const { return ground.x + x * ground.width; }
  [[nodiscard]] double down(double y) const { return ground.y + (1 - y) * ground.height; }

  [[nodiscard]] std::string grid(bool last) const;
  [[nodiscard]] std::string marks(const Series& series, const std::string& color) const;
  [[nodiscard]] std::string lines(const Series& series, const std::string& color) const;
  [[nodiscard]] std::string legend() const;
  [[nodiscard]] std::string notes() const;
};

std::string Panel::grid(bool last) const {
  std::string svg;
  const double low = ground.y + ground.height, end = ground.x + ground.width;
  for (const double value : axes.x.minor) {
    const double x = across(axes.x.position(value));
    svg += line_at(x, low, x, ground.y, "#f1f1ec");
  }
  for (const double value : axes.y.minor) {
    const double y = down(axes.y.position(value));
    svg += line_at(ground.x, y, end, y, "#f1f1ec");
  }
  for (const Tick& tick : axes.x.ticks) {
    const double x = across(axes.x.position(tick.value));
    svg += line_at(x, low, x, ground.y, "#e4e4de");
    if (last) svg += text_at(x, low + 20, "middle", tick.label);
  }
  for (const Tick& tick : axes.y.ticks) {
    const double y = down(axes.y.position(tick.value));
    svg += line_at(ground.x, y, end, y, "#e4e4de");
    svg += text_at(left - 9, y, "end", tick.label, " dominant-baseline=\"middle\"");
  }
  svg +=
      line_at(ground.x, low, end, low, "#555") + line_at(ground.x, low, ground.x, ground.y, "#555");
  if (last) svg += text_at(ground.x + ground.width / 2, low + 44, "middle", plot.x_label);
  return svg + text_at(0, 0, "middle", plot.y_label,
                       " transform=\"translate(20 " + number(ground.y + ground.height / 2) +
                           ") rotate(-90)\"");
}

std::string mark_at(Style style, double x, double y) {
  const std::string place = at(x) + " " + at(y);
  switch (style) {
    case Style::crosses:
      return "<path d=\"M" + place + "m-5-5l10 10m0-10l-10 10\" fill=\"none\"/>\n";
    case Style::plus:
      return "<path d=\"M" + place + "m-6 0h12m-6-6v12\" fill=\"none\"/>\n";
    case Style::rings:
      return "<circle cx=\"" + at(x) + "\" cy=\"" + at(y) + "\" r=\"5\" fill=\"#fdfdfb\"/>\n";
    default:
      return "<circle cx=\"" + at(x) + "\" cy=\"" + at(y) + "\" r=\"3\" stroke=\"none\"/>\n";
  }
}

std::string Panel::marks(const Series& series, const std::string& color) const {
  std::string svg = "<g fill=\"" + color + "\" stroke=\"" + color + "\" stroke-width=\"2\">\n";
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    const Point p = place(axes, series.x[i], series.y[i]);
    if (inside(p)) svg += mark_at(series.style, across(p.x), down(p.y));
  }
  return svg + "</g>\n";
}

std::string stroke_of(Style style, const std::string& color) {
  std::string more = " stroke=\"" + color + "\" stroke-width=\"2\"";
  if (style == Style::dashes) more += " stroke-dasharray=\"6 4\"";
  if (style == Style::guide) more = " stroke=\"" + color + "\" stroke-dasharray=\"2 3\"";
  return more;
}

std::string Panel::lines(const Series& series, const std::string& color) const {
  std::string svg;
  for (const std::vector<Point>& part : parts_of(axes, series)) {
    svg += "<polyline fill=\"none\"" + stroke_of(series.style, color) +
           " stroke-linejoin=\"round\" points=\"";
    std::string before;
    for (const Point& p : part) {
      const std::string point = at(across(p.x)) + "," + at(down(p.y)) + " ";
      if (point != before) svg += point;
      before = point;
    }
    svg += "\"/>\n";
  }
  for (const std::size_t i : series.arrows) {
    const std::size_t from = i == 0 ? 0 : i - 1;
    const Point a = place(axes, series.x[from], series.y[from]);
    const Point b = place(axes, series.x[from + 1], series.y[from + 1]);
    if (!inside(b)) continue;
    const double angle = std::atan2(down(b.y) - down(a.y), across(b.x) - across(a.x));
    svg += "<path d=\"M0 0L-11-5L-11 5Z\" fill=\"" + color + "\" transform=\"translate(" +
           at(across(b.x)) + " " + at(down(b.y)) + ") rotate(" + at(angle * 57.29577951308232) +
           ")\"/>\n";
  }
  return svg;
}

/// The width that the legend's entry of a name takes.
double entry_width(const std::string& name) { return 52 + 7.0 * static_cast<double>(length(name)); }

/// How many lines the legend takes.
int legend_lines(const Plot& plot) {
  int lines = 0;
  double x = width;
  for (const Series& series : plot.series) {
    if (series.name.empty()) continue;
    if (x + entry_width(series.name) - 21 > width) {
      ++lines;
      x = left;
    }
    x += entry_width(series.name);
  }
  return lines;
}

std::string Panel::legend() const {
  std::string svg;
  double x = left, y = ground.y - 22 * legend_lines(plot);
  for (std::size_t s = 0; s < plot.series.size(); ++s) {
    const Series& series = plot.series[s];
    if (series.name.empty()) continue;
    if (x > left && x + entry_width(series.name) - 21 > width) {
      x = left;
      y += 22;
    }
    const std::string color = color_of(plot, s);
    if (is_line(series.style))
      svg += "<path d=\"M" + at(x) + " " + at(y) + "h24\" fill=\"none\"" +
             stroke_of(series.style, color) + "/>\n";
    else
      svg += "<g fill=\"" + color + "\" stroke=\"" + color + "\" stroke-width=\"2\">\n" +
             mark_at(series.style, x + 12, y) + "</g>\n";
    svg += text_at(x + 31, y, "start", series.name, " dominant-baseline=\"middle\"");
    x += entry_width(series.name);
  }
  return svg;
}

/// Each note beside its point, where it hides as little as can be of the lines, the marks and the
/// other notes.
std::string Panel::notes() const {
  constexpr double size = 12, high = 15;
  std::vector<Box> taken;
  std::vector<Point> points;  // of lines, in the image
  for (const Series& series : plot.series) {
    if (is_line(series.style)) {
      for (const std::vector<Point>& part : parts_of(axes, series))
        for (std::size_t i = 1; i < part.size(); ++i) {
          const Point a{across(part[i - 1].x), down(part[i - 1].y)};
          const Point b{across(part[i].x), down(part[i].y)};
          const double pieces = std::ceil(std::hypot(b.x - a.x, b.y - a.y) / 4);
          for (double k = 1; k <= pieces; ++k)
            points.push_back({a.x + (b.x - a.x) * k / pieces, a.y + (b.y - a.y) * k / pieces});
        }
      continue;
    }
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      const Point p = place(axes, series.x[i], series.y[i]);
      if (inside(p)) taken.push_back({across(p.x) - 6, down(p.y) - 6, 12, 12});
    }
  }
  std::string svg;
  for (const Note& note : plot.notes) {
    const Point p = place(axes, note.x, note.y);
    if (!inside(p)) continue;
    const double x = across(p.x), y = down(p.y), wide = width_of(note.text, size) + 6;
    Box best{};
    double least = std::numeric_limits<double>::infinity(), far = 0;
    for (const double distance : {9., 16., 26., 40., 58., 80., 110.})
      for (int turn = 0; turn < 16; ++turn) {
        const double c = std::cos(turn * .39269908169872414),
                     s = std::sin(turn * .39269908169872414);
        const auto beside = [](double part, double length) {  // the box ends where the point is
          return std::abs(part) < .2 ? -length / 2 : part < 0 ? -length : 0.;
        };
        const Box box{x + c * distance + beside(c, wide), y + s * distance + beside(s, high), wide,
                      high};
        if (box.x < ground.x || box.y < ground.y || box.x + wide > ground.x + ground.width ||
            box.y + high > ground.y + ground.height)
          continue;
        double cost = distance;
        for (const Box& other : taken)
          cost += overlap(box, other) > 0 ? 400 + overlap(box, other) : 0;
        for (const Point& q : points)
          if (q.x > box.x && q.x < box.x + wide && q.y > box.y && q.y < box.y + high) cost += 12;
        if (cost < least) {
          least = cost;
          best = box;
          far = distance;
        }
      }
    if (!std::isfinite(least)) continue;
    taken.push_back(best);
    if (far > 12)
      svg += line_at(x, y, std::clamp(x, best.x, best.x + wide),
                     std::clamp(y, best.y, best.y + high), "#a3a39b");
    svg += "<rect x=\"" + at(best.x) + "\" y=\"" + at(best.y) + "\" width=\"" + at(wide) +
           "\" height=\"" + at(high) + "\" fill=\"#fdfdfb\" fill-opacity=\".8\"/>\n";
    svg += text_at(best.x + 3, best.y + 12, "start", note.text, " font-size=\"12\"");
  }
  return svg;
}

}  // namespace

std::string to_svg(const Figure& figure) {
  const bool alone = figure.panels.size() == 1;
  std::vector<Panel> panels;
  double y = 28;
  for (const Plot& plot : figure.panels) {
    y += 22 * legend_lines(plot) + (panels.empty() ? 22 : between - 4);
    double height = alone ? 450 - bottom - 72 : 210;
    if (plot.equal) {
      const Range across = plot.x_range.value_or(range_of({plot}, &Series::x, plot.x_scale));
      const Range up = plot.y_range.value_or(range_of({plot}, &Series::y, plot.y_scale));
      const double shape = (up.high - up.low) / std::max(across.high - across.low, 1e-300);
      height = std::clamp(ground_width * shape, 320., 560.);
    }
    panels.push_back({plot,
                      axes_of(figure, plot, ground_width, height, 10, alone ? 6 : 5),
                      {left, y, ground_width, height}});
    y += height;
  }
  const std::string height = number(y + bottom);
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 " + height +
                    "\" width=\"800\" height=\"" + height +
                    "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" "
                    "fill=\"#333\">\n<rect width=\"800\" height=\"" +
                    height + "\" fill=\"#fdfdfb\"/>\n";
  svg += text_at(left, 28, "start", figure.panels.front().title,
                 " font-size=\"17\" font-weight=\"600\"");
  for (const Panel& panel : panels) {
    svg += panel.grid(&panel == &panels.back()) + panel.legend();
    for (std::size_t s = 0; s < panel.plot.series.size(); ++s) {
      const Series& series = panel.plot.series[s];
      const std::string color = color_of(panel.plot, s);
      svg += is_line(series.style) ? panel.lines(series, color) : panel.marks(series, color);
    }
    svg += panel.notes();
  }
  return svg + "</svg>\n";
}

}  // namespace plot
