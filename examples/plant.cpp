// Any linear system from the command line: its poles, margins and step figures in words, and its
// Bode, Nyquist, root locus, step and pole-zero pictures.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plant_analysis.hpp"
#include "plant_pictures.hpp"
#include "plant_system.hpp"
#include "plot.hpp"
#include "ssm/system/poles_zeros.hpp"

namespace plant {
namespace {

struct Options {
  Given given;
  std::optional<std::string> bode, nyquist, locus, step, map;
  std::optional<double> from, to, seconds, largest_gain;
  int output = 0, input = 0;  ///< the channel, 0 for all
  bool hertz = false;
};

Options parse(int argc, char* argv[]) {
  options::Command app{
      "The poles, margins and step figures of a linear system, and its pictures.\n"
      "  plant --num 1 --den 1,0.8,4 --bode bode.svg\n"
      "Lists have commas, rows of a matrix semicolons between them: \"0,1;-4,-0.8\"."};
  Options o;
  Given& g = o.given;
  app.add("--num", g.num, "numerator, the highest power of s (or z) first");
  app.add("--den", g.den, "denominator, likewise");
  app.add("--zeros", g.zeros, "zeros: -1,2i,-2i,-0.4+-1.96i");
  app.add("--poles", g.poles, "poles, likewise");
  app.add("--gain", g.gain, "what (s - zeros)/(s - poles) is multiplied by; 1 when not given");
  app.add("--A", g.A, "matrices of x' = A x + B u, y = C x + D u");
  app.add("--B", g.B);
  app.add("--C", g.C);
  app.add("--D", g.D, "0 when not given");
  app.add("--discrete", g.discrete, "the system is one in z, of this step, s")
      .check(options::positive);
  app.add("--delay", g.delay, "the input comes so much later, s").check(options::not_negative);
  app.add("--output", o.output, "only this output, from 1").check(options::between(1, 1e4));
  app.add("--input", o.input, "only this input, from 1").check(options::between(1, 1e4));
  app.add("--bode", o.bode, "Bode plot into this SVG file; - for the terminal alone");
  app.add("--nyquist", o.nyquist, "Nyquist plot");
  app.add("--locus", o.locus, "root locus: the poles of k G / (1 + k G)");
  app.add("--step", o.step, "step response");
  app.add("--map", o.map, "poles and zeros");
  app.add("--from", o.from, "lowest frequency, rad/s").check(options::positive);
  app.add("--to", o.to, "highest frequency, rad/s").check(options::positive);
  app.add("--seconds", o.seconds, "length of the step response, s").check(options::positive);
  app.add("--largest-gain", o.largest_gain, "k at which the root locus ends")
      .check(options::positive);
  app.flag("--hz", o.hertz, "frequencies in Hz");
  auto ended = app.parse(argc, argv);
  if (!ended && o.from && o.to && !(*o.from < *o.to))
    ended = app.refuse("--from", "is not below --to");
  if (ended) std::exit(*ended);
  return o;
}

std::string root_text(const Complex& root) {
  if (root.imag() == 0) return job::format("%.4g", root.real() == 0 ? 0 : root.real());
  return job::format("%.4g +- %.4gi", root.real() == 0 ? 0 : root.real(), std::abs(root.imag()));
}

/// The roots in order, each conjugate pair once.
Points in_order(Points roots) {
  std::erase_if(roots, [](const Complex& root) { return root.imag() < 0; });
  std::sort(roots.begin(), roots.end(), [](const Complex& a, const Complex& b) {
    return std::pair(-a.real(), a.imag()) < std::pair(-b.real(), b.imag());
  });
  return roots;
}

/// What a mode does in time.
std::string motion(const Complex& rate) {
  if (!std::isfinite(std::abs(rate))) return "over after one step";
  const double edge = 1e-9 * std::abs(rate);
  std::string text =
      rate.real() < -edge  ? job::format("halves in %.3g s", std::log(2) / -rate.real())
      : rate.real() > edge ? job::format("doubles in %.3g s", std::log(2) / rate.real())
                           : "stays";
  if (std::abs(rate.imag()) > edge)
    text += job::format(", swings once in %.3g s", 6.283185307179586 / std::abs(rate.imag()));
  return text;
}

void tell_poles(const Plant& plant, Frequencies unit) {
  const auto [poles, zeros] = with_system(plant, [](const auto& system) {
    const auto p = ssm::poles(system);
    const auto z = ssm::zeros(system);
    return std::pair(Points(p.begin(), p.end()), Points(z.begin(), z.end()));
  });
  const char* plane = plant.delta ? "z" : "1/s";
  if (poles.empty()) {
    std::puts("no poles: the output follows the input at once");
  } else {
    std::printf("%-28s %9s  %15s   in time\n", job::format("poles (%s)", plane).c_str(), "damping",
                job::format("frequency (%s)", unit.unit()).c_str());
    for (const Complex& pole : in_order(poles)) {
      const Complex rate = rate_of(pole, plant.delta);
      const double frequency = std::abs(rate);
      const bool finite = std::isfinite(frequency);
      std::printf("  %-26s %9.3g  %15.4g   %s\n", root_text(pole).c_str(),
                  finite && frequency > 0 ? 0. - rate.real() / frequency : 1., unit(frequency),
                  motion(rate).c_str());
    }
  }
  std::string text;
  for (const Complex& zero : in_order(zeros)) text += (text.empty() ? "" : ",  ") + root_text(zero);
  std::printf("zeros (%s): %s\n", plane, text.empty() ? "none" : text.c_str());
  long grows = 0, stays = 0;
  for (const Complex& pole : poles) {
    const Complex rate = rate_of(pole, plant.delta);
    if (!std::isfinite(std::abs(rate)) || rate.real() < -1e-9 * std::abs(rate)) continue;
    ++(rate.real() > 1e-9 * std::abs(rate) ? grows : stays);
  }
  if (grows > 0)
    std::printf("unstable: %ld of its %zu poles %s\n", grows, poles.size(),
                grows == 1 ? "grows" : "grow");
  else if (stays > 0)
    std::printf("on the edge: %ld of its %zu poles %s\n", stays, poles.size(),
                stays == 1 ? "neither grows nor decays" : "neither grow nor decay");
  else
    std::puts("stable");
}

void tell_gain(const Channel& channel) {
  const auto at_rest = [&](const Complex& root) {
    return std::abs(root - Complex(channel.plant.delta ? 1 : 0)) < 1e-9;
  };
  if (std::any_of(channel.poles().begin(), channel.poles().end(), at_rest)) {
    std::puts("dc gain: infinite, it integrates");
    return;
  }
  const double gain =
      with_system(channel.plant, [](const auto& s) { return ssm::dc_gain(s)(0, 0); });
  std::printf("dc gain: %.4g", gain);
  std::puts(gain != 0 ? job::format(" (%.3g dB)", 20 * std::log10(std::abs(gain))).c_str() : "");
}

void tell_step(const Step& step, const std::optional<ssm::StepInfo<double>>& figures) {
  if (!figures) {
    std::puts(step.final_value ? "step: it comes back to 0" : "step: it does not settle");
    return;
  }
  std::printf("step: to %.4g", *step.final_value);
  if (step.output.front() == *step.final_value && figures->overshoot == 0) {
    std::puts(" at once");
    return;
  }
  if (figures->rise_time < 1e-6 * step.time.back())
    std::printf("; rises at once");
  else if (std::isfinite(figures->rise_time))
    std::printf("; rises from 10 to 90%% in %.3g s", figures->rise_time);
  if (std::isfinite(figures->settling_time))
    std::printf(", within 2%% from %.3g s", figures->settling_time);
  if (figures->overshoot > .1)
    std::printf(", overshoots by %.3g%% at %.3g s", figures->overshoot,
                std::abs(figures->peak_time));
  if (figures->undershoot > .1)
    std::printf(", first goes %.3g%% the other way", figures->undershoot);
  std::puts("");
}

void tell_loop(const ssm::Margins& margins, const Crossings& crossings,
               const std::vector<GainRange>& ranges, Frequencies unit) {
  std::printf("in a loop that feeds -y back: %s\n", margins.stable ? "stable" : "NOT stable");
  for (const auto* kind : {&crossings.gain, &crossings.phase})
    for (const Crossing& crossing : *kind)
      std::printf("  %s at %s\n", crossing.margin.c_str(), crossing.where.c_str());
  if (crossings.gain.empty()) std::puts("  gain margin: infinite, the phase does not cross 180°");
  if (crossings.phase.empty()) std::puts("  phase margin: infinite, the gain does not cross 1");
  if (margins.stable && std::isfinite(margins.delay.seconds))
    std::printf("  delay margin %.3g s\n", margins.delay.seconds);
  if (margins.stable)
    std::printf("  peak sensitivity %.3g (%.3g dB) at %.3g %s\n", margins.sensitivity.value,
                20 * std::log10(margins.sensitivity.value), unit(margins.sensitivity.frequency),
                unit.unit());
  std::string text;
  for (const GainRange& range : ranges) {
    text += text.empty() ? "" : " and ";
    if (range.from == 0 && std::isinf(range.to))
      text += "for every gain";
    else if (range.from == 0)
      text += job::format("up to %.4g times the gain", range.to);
    else if (std::isinf(range.to))
      text += job::format("from %.4g times the gain on", range.from);
    else
      text += job::format("from %.4g to %.4g times the gain", range.from, range.to);
  }
  std::printf("  stable %s\n", text.empty() ? "for no gain" : text.c_str());
}

/// The file for one of several channels: bode.svg becomes bode-y2-u1.svg.
std::string file_of(const std::string& option, const std::string& suffix) {
  if (option == "-") return {};
  const std::size_t dot = option.rfind('.');
  if (suffix.empty() || dot == std::string::npos || option.find('/', dot) != std::string::npos)
    return option + suffix;
  return option.substr(0, dot) + suffix + option.substr(dot);
}

void tell_channel(const Plant& plant, const Options& o, const std::string& name,
                  const std::string& suffix) {
  const Frequencies unit{o.hertz};
  const Channel channel = channel_of(plant);
  if (channel.response.roots().gain == 0) {
    std::puts("0: the input does not reach the output");
    return;
  }
  if (o.from && *o.from >= channel.response.highest_frequency())
    throw std::runtime_error(
        job::format("--from: is %g, expected below pi over the step, %.4g rad/s", *o.from,
                    channel.response.highest_frequency()));
  double fastest = 0;
  for (const Complex& pole : channel.poles()) fastest = std::max(fastest, std::abs(pole));
  if (plant.delay * fastest > 1e4)
    throw std::runtime_error(job::format(
        "--delay: is %.3g times as long as the fastest pole takes, expected at most 10000 times",
        plant.delay * fastest));
  tell_gain(channel);
  const auto [answer, figures] = step_of(channel, o.seconds);
  tell_step(answer, figures);
  const Channel fraction = rational(channel);
  ssm::Margins margins;
  Crossings crossings;
  const double at_once = std::abs(plant.D(0, 0));
  if (plant.delay > 0 && at_once >= 1) {
    std::printf("in a loop that feeds -y back: NOT stable, the delayed gain stays at %.3g\n",
                at_once);
  } else if (!channel.poles().empty()) {
    margins = ssm::margins(channel.response);
    crossings = crossings_of(channel, margins, unit);
    tell_loop(margins, crossings, stable_gains(channel, margins), unit);
  }
  const Response response = response_of(channel, o.from, o.to);
  const Roots roots{fraction.poles(), fraction.zeros(), plant.delta};
  if (o.bode) plot::show(bode(name, response, crossings, unit), file_of(*o.bode, suffix));
  if (o.nyquist) plot::show(nyquist(name, response, crossings, unit), file_of(*o.nyquist, suffix));
  const bool planes = !roots.poles.empty() || !roots.zeros.empty();
  if (o.locus && !planes) std::puts("no root locus: a gain has no poles that could move");
  if (o.locus && planes)
    plot::show(locus(name + (fraction.approximated ? ", by Padé's fraction" : ""), roots,
                     locus_of(fraction, margins, o.largest_gain)),
               file_of(*o.locus, suffix));
  if (o.step) plot::show(step(name, answer), file_of(*o.step, suffix));
  if (o.map && !planes) std::puts("no picture of poles and zeros: a gain has none");
  if (o.map && planes)
    plot::show(map(name, {channel.poles(), channel.zeros(), plant.delta}, unit),
               file_of(*o.map, suffix));
}

int run(const Options& o) {
  const Plant plant = read(o.given);
  const auto refuse = [](const char* option, int got, long there) {
    throw std::runtime_error(job::format("--%s: is %d, and there are %ld", option, got, there));
  };
  if (o.output > plant.outputs()) refuse("output", o.output, static_cast<long>(plant.outputs()));
  if (o.input > plant.inputs()) refuse("input", o.input, static_cast<long>(plant.inputs()));
  const char* letter = plant.delta ? "z" : "s";
  std::printf("G(%s)%s%s: %s in %s time, %ld state%s", letter, plant.transfer.empty() ? "" : " = ",
              plant.transfer.c_str(),
              plant.inputs() * plant.outputs() == 1 ? "a system" : "a matrix",
              plant.delta ? "discrete" : "continuous", static_cast<long>(plant.A.rows()),
              plant.A.rows() == 1 ? "" : "s");
  if (plant.delta) std::printf(", step %g s", *plant.delta);
  if (o.given.delay > 0) std::printf(", input delayed by %g s", o.given.delay);
  std::puts("\n");
  tell_poles(plant, {o.hertz});
  const bool one = plant.inputs() * plant.outputs() == 1;
  for (Eigen::Index y = 0; y < plant.outputs(); ++y)
    for (Eigen::Index u = 0; u < plant.inputs(); ++u) {
      if ((o.output > 0 && y != o.output - 1) || (o.input > 0 && u != o.input - 1)) continue;
      std::string name = plant.transfer.empty() ? std::string("G(") + letter + ")" : plant.transfer;
      if (o.given.delay > 0) name += job::format(" after %g s", o.given.delay);
      std::string suffix;
      if (!one) {
        name +=
            job::format(" from u%ld to y%ld", static_cast<long>(u + 1), static_cast<long>(y + 1));
        suffix = job::format("-y%ld-u%ld", static_cast<long>(y + 1), static_cast<long>(u + 1));
        std::printf("\nfrom u%ld to y%ld, the other inputs 0\n", static_cast<long>(u + 1),
                    static_cast<long>(y + 1));
      }
      tell_channel(plant.channel(y, u), o, name, suffix);
    }
  return 0;
}

}  // namespace
}  // namespace plant

int main(int argc, char* argv[]) {
  const plant::Options options = plant::parse(argc, argv);
  return job::main(argv[0], [&] { return plant::run(options); });
}
