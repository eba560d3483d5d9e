#include <cmath>
#include <limits>
#include <regex>
#include <string>
#include <vector>

#include "../../examples/plot_axes.hpp"
#include "support/catch.hpp"

namespace plot_test {
namespace {

using plot::Plot, plot::Scale, plot::Series, plot::Style;

std::vector<std::string> labels(const plot::Axis& axis) {
  std::vector<std::string> all;
  for (const plot::Tick& tick : axis.ticks) all.push_back(tick.label);
  return all;
}

Plot plot_of(std::vector<Series> series) {
  return {"a title", "x (s)", "y (m)", std::move(series)};
}

struct Box {
  double x, y, width, height;
};
/// The grounds of the notes, which are the white boxes.
std::vector<Box> boxes(const std::string& svg) {
  const std::regex pattern(
      "<rect x=\"([^\"]*)\" y=\"([^\"]*)\" width=\"([^\"]*)\" height=\"([^\"]*)\" "
      "fill=\"#fdfdfb\" ");
  std::vector<Box> found;
  for (std::sregex_iterator at(svg.begin(), svg.end(), pattern), end; at != end; ++at)
    found.push_back(
        {std::stod((*at)[1]), std::stod((*at)[2]), std::stod((*at)[3]), std::stod((*at)[4])});
  return found;
}

}  // namespace

TEST_CASE("a linear axis ends at round numbers, and where it is told to") {
  CHECK(labels(plot::axis_over(Scale::linear, {0.3, 11.8}, 6, true)) ==
        std::vector<std::string>{"0", "2", "4", "6", "8", "10", "12"});
  const plot::Axis told = plot::axis_over(Scale::linear, {0.3, 2.7}, 5, false);
  CHECK(told.low == 0.3);
  CHECK(told.high == 2.7);
  CHECK(labels(told) == std::vector<std::string>{"0.5", "1", "1.5", "2", "2.5"});
}

TEST_CASE("the labels of a narrow range far from zero tell its ticks apart") {
  CHECK(labels(plot::axis_over(Scale::linear, {123456, 123458}, 4, true)) ==
        std::vector<std::string>{"123456", "123456.5", "123457", "123457.5", "123458"});
}

TEST_CASE("a logarithmic axis labels its decades and marks the digits between") {
  const plot::Axis axis = plot::axis_over(Scale::logarithmic, {0.02, 700}, 10, true);
  CHECK(axis.low == Approx(0.01));
  CHECK(axis.high == Approx(1000));
  CHECK(labels(axis) == std::vector<std::string>{"0.01", "0.1", "1", "10", "100", "1000"});
  CHECK(axis.minor.size() == 5 * 8);
  CHECK(axis.position(1) == Approx(0.4));
}

TEST_CASE("a logarithmic axis of many decades labels some, one of less than a decade every digit") {
  CHECK(labels(plot::axis_over(Scale::logarithmic, {1e-9, 1e9}, 6, true)) ==
        std::vector<std::string>{"10⁻⁹", "10⁻⁶", "0.001", "1", "1000", "10⁶", "10⁹"});
  CHECK(labels(plot::axis_over(Scale::logarithmic, {2, 5}, 10, false)) ==
        std::vector<std::string>{"2", "3", "4", "5"});
}

TEST_CASE("an axis of degrees has parts of a turn") {
  CHECK(labels(plot::axis_over(Scale::degrees, {-262, -93}, 5, true)) ==
        std::vector<std::string>{"-270", "-225", "-180", "-135", "-90"});
}

TEST_CASE("values of nothing, of one point and of no finite number have an axis too") {
  for (const std::vector<double>& values :
       {std::vector<double>{}, {3}, {0, 0}, {NAN, INFINITY}, {1e300, -1e300}}) {
    const std::string text = plot::to_text(plot_of({{"", Style::line, values, values}}));
    CHECK(text.find("a title") != std::string::npos);
    CHECK(plot::to_svg(plot_of({{"", Style::dots, values, values}})).ends_with("</svg>\n"));
  }
}

TEST_CASE("with equal units a circle is as high as it is wide") {
  Plot picture = plot_of({{"", Style::line, {}, {}}});
  for (int i = 0; i <= 60; ++i) {
    picture.series[0].x.push_back(5 + std::cos(i * .10471975511965977));
    picture.series[0].y.push_back(std::sin(i * .10471975511965977));
  }
  picture.equal = true;
  const std::string svg = plot::to_svg(picture);
  const std::size_t at = svg.find("points=\"");
  REQUIRE(at != std::string::npos);
  double x_low = 1e9, x_high = -1e9, y_low = 1e9, y_high = -1e9;
  const std::string points = svg.substr(at, svg.find("/>", at) - at);
  const std::regex pair("([0-9.]+),([0-9.]+)");
  for (std::sregex_iterator p(points.begin(), points.end(), pair), end; p != end; ++p) {
    x_low = std::min(x_low, std::stod((*p)[1]));
    x_high = std::max(x_high, std::stod((*p)[1]));
    y_low = std::min(y_low, std::stod((*p)[2]));
    y_high = std::max(y_high, std::stod((*p)[2]));
  }
  CHECK(x_high - x_low == Approx(y_high - y_low).epsilon(.01));
}

TEST_CASE("a line is cut at the edge of what is shown, and ends at a number that is not finite") {
  Plot picture = plot_of({{"", Style::line, {0, 1, 2, 3, 4}, {0, 1000, 0, NAN, 0}}});
  picture.y_range = plot::Range{0, 10};
  const auto axes = plot::axes_of(picture, picture, 100, 100, 5, 5);
  const auto parts = plot::parts_of(axes, picture.series[0]);
  REQUIRE(parts.size() == 2);  // up through the edge, down from it
  for (const auto& part : parts)
    for (const plot::Point& p : part) CHECK(plot::inside(p));
  CHECK(parts[0].back().y == Approx(1));
  CHECK(parts[0].back().x == Approx(.0025));
}

TEST_CASE("guides widen no axis, and a line of one point makes the axes reach it") {
  const auto axis_of = [](const Series& more) {
    const Plot picture = plot_of({{"", Style::line, {0, 1}, {0, 1}}, more});
    return plot::axes_of(picture, picture, 100, 100, 5, 5).y;
  };
  CHECK(axis_of({"", Style::guide, {0, 1}, {-100, 100}}).high == 1);
  CHECK(axis_of({"", Style::line, {0}, {7}}).high >= 7);
}

TEST_CASE("notes lie apart from each other and within the picture, however close their points") {
  Plot picture = plot_of({{"", Style::line, {0, 10}, {0, 10}}, {"", Style::dots, {}, {}}});
  for (int i = 0; i < 6; ++i) {
    picture.notes.push_back({5 + .01 * i, 5, "a note of some length"});
    picture.series[1].x.push_back(5 + .01 * i);
    picture.series[1].y.push_back(5);
  }
  picture.notes.push_back({99, 99, "outside"});
  const std::string svg = plot::to_svg(picture);
  const std::vector<Box> all = boxes(svg);
  REQUIRE(all.size() == 6);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i].x >= 78);
    CHECK(all[i].x + all[i].width <= 776);
    for (std::size_t j = 0; j < i; ++j) {
      const bool apart =
          all[i].x + all[i].width <= all[j].x || all[j].x + all[j].width <= all[i].x ||
          all[i].y + all[i].height <= all[j].y || all[j].y + all[j].height <= all[i].y;
      CHECK(apart);
    }
  }
  CHECK(svg.find("outside") == std::string::npos);
}

TEST_CASE("panels share the axis below the last, and the title of the first") {
  Plot above = plot_of({{"", Style::line, {1, 100}, {0, 1}}});
  Plot below = plot_of({{"", Style::line, {1, 100}, {5, 9}}});
  above.x_scale = below.x_scale = Scale::logarithmic;
  below.y_label = "z (V)";
  const plot::Figure figure({above, below});
  for (const std::string& text : {plot::to_text(figure, 40), plot::to_svg(figure)}) {
    const auto count = [&](const std::string& what) {
      int times = 0;
      for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++times;
      return times;
    };
    CHECK(count("a title") == 1);
    CHECK(count("x (s)") == 1);
    CHECK(count("y (m)") == 1);
    CHECK(count("z (V)") == 1);
  }
}

TEST_CASE("a legend that is too long for a line takes two") {
  std::vector<Series> series;
  for (int i = 0; i < 6; ++i)
    series.push_back({"a curve with a long name", Style::line, {0, 1}, {0, 1}});
  const std::string svg = plot::to_svg(plot_of(series));
  const std::regex entry("<text x=\"([^\"]*)\" y=\"[^\"]*\" text-anchor=\"start\" dom");
  for (std::sregex_iterator at(svg.begin(), svg.end(), entry), end; at != end; ++at)
    CHECK(std::stod((*at)[1]) < 776 - 100);
}

}  // namespace plot_test
