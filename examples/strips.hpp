#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "plot.hpp"

/// What a model makes of a text: a strip of bars for each of several numbers, one bar a letter, the
/// letters below.
namespace strips {

struct Strip {
  std::string name;
  std::vector<double> values;  ///< not negative, one a letter
};

struct Picture {
  std::string title;
  std::string text;  ///< its letters, of one byte each
  std::vector<Strip> strips;
};

inline double top_of(const Strip& strip) {
  const auto top = std::max_element(strip.values.begin(), strip.values.end());
  return top == strip.values.end() || !(*top > 0) ? 1 : *top;
}

/// A letter as a picture shows it.
inline std::string shown(char letter) {
  if (letter == '\n') return "↵";
  return letter >= ' ' && letter <= '~' ? std::string(1, letter) : "·";
}

/// In characters, cut into lines of `width` letters.
inline std::string to_text(const Picture& picture, std::size_t width) {
  constexpr const char* bars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::size_t margin = 0;
  for (const Strip& strip : picture.strips) margin = std::max(margin, strip.name.size());
  std::string result = picture.title + "\n";
  for (std::size_t at = 0; at < picture.text.size(); at += width) {
    const std::size_t end = std::min(picture.text.size(), at + width);
    for (const Strip& strip : picture.strips) {
      result += "\n" + strip.name + std::string(margin - strip.name.size() + 2, ' ');
      for (std::size_t i = at; i < end; ++i)
        result += bars[std::clamp(
            static_cast<int>(std::lround(8 * strip.values[i] / top_of(strip))), 0, 8)];
    }
    result += "\n" + std::string(margin + 2, ' ');
    for (std::size_t i = at; i < end; ++i) result += shown(picture.text[i]);
    result += "\n";
  }
  return result;
}

inline std::string to_svg(const Picture& picture) {
  constexpr double left = 92, right = 24, top = 56, row = 64, below = 34;
  const auto count = static_cast<double>(std::max<std::size_t>(picture.text.size(), 1));
  const double letter = std::clamp(900 / count, 9.0, 20.0);
  const double width = std::max(left + letter * count + right, 640.0);
  const double height = top + row * static_cast<double>(picture.strips.size()) + below;
  const auto at = [](double x) { return plot::number(x, "%.2f"); };
  const auto text = [&](double x, double y, const std::string& more, const std::string& content) {
    return "<text x=\"" + at(x) + "\" y=\"" + at(y) + "\"" + more + ">" + plot::escaped(content) +
           "</text>\n";
  };
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + at(width) + " " +
                    at(height) + "\" width=\"" + at(width) + "\" height=\"" + at(height) +
                    "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" "
                    "fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fdfdfb\"/>\n";
  svg += text(16, 28, " font-size=\"17\" font-weight=\"600\"", picture.title);
  double base = top;
  for (const Strip& strip : picture.strips) {
    base += row;
    const double high = row - 14, most = top_of(strip);
    svg += text(16, base - high / 2, "", strip.name);
    for (const double part : {0.0, 1.0}) {
      const std::string y = at(base - high * part);
      svg += "<line x1=\"" + at(left) + "\" y1=\"" + y + "\" x2=\"" + at(left + letter * count) +
             "\" y2=\"" + y + "\" stroke=\"#e4e4de\"/>\n";
      svg += text(left - 6, base - high * part,
                  " text-anchor=\"end\" font-size=\"10\" "
                  "dominant-baseline=\"middle\"",
                  plot::number(most * part, "%.2g"));
    }
    svg += "<g fill=\"#1f6feb\">\n";
    for (std::size_t i = 0; i < strip.values.size(); ++i) {
      const double bar = high * strip.values[i] / most;
      svg += "<rect x=\"" + at(left + letter * (static_cast<double>(i) + 0.12)) + "\" y=\"" +
             at(base - bar) + "\" width=\"" + at(letter * 0.76) + "\" height=\"" + at(bar) +
             "\"/>\n";
    }
    svg += "</g>\n";
  }
  svg += "<g font-family=\"monospace\" font-size=\"" + at(std::min(letter * 1.2, 16.0)) +
         "\" text-anchor=\"middle\">\n";
  for (std::size_t i = 0; i < picture.text.size(); ++i)
    if (picture.text[i] != ' ')
      svg += text(left + letter * (static_cast<double>(i) + 0.5), base + 20, "",
                  shown(picture.text[i]));
  return svg + "</g>\n</svg>\n";
}

/// Prints a picture, and writes it to an SVG file unless `svg` is empty.
/// @throws std::runtime_error
inline void show(const Picture& picture, const std::string& svg) {
  const int room = std::clamp(plot::columns() - 16, 16, 160);
  std::printf("\n%s\n", to_text(picture, static_cast<std::size_t>(room)).c_str());
  if (svg.empty()) return;
  std::ofstream file(svg);
  file << to_svg(picture);
  file.close();
  if (!file) throw std::runtime_error("cannot write " + svg);
  std::printf("wrote %s\n", svg.c_str());
}

}  // namespace strips
