#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "plant_pictures.hpp"
#include "plant_system.hpp"
#include "ssm/scan/step_info.hpp"
#include "ssm/system/margins.hpp"
#include "ssm/system/siso_response.hpp"

/// What is computed of one channel of a plant.
namespace plant {

/// One input and one output.
struct Channel {
  Plant plant;
  ssm::SisoResponse response;
  bool approximated = false;  ///< whether a delay is in it as a fraction
  double right_below = 0;     ///< that is right up to this frequency, rad/s

  [[nodiscard]] const Points& zeros() const { return response.roots().zeros; }
  [[nodiscard]] const Points& poles() const { return response.roots().poles; }
};
Channel channel_of(const Plant& plant);

/// The same without a delay: a continuous one becomes Padé's fraction of order 6.
Channel rational(const Channel& channel);

/// What a root means in time: λ (1/s), of a discrete one ln z / Δ.
Complex rate_of(const Complex& root, const std::optional<double>& delta);

/// G from one frequency to another (rad/s), or where something happens.
Response response_of(const Channel& channel, std::optional<double> from, std::optional<double> to);

/// The margins as the pictures show them: of gain those nearest to 1, upwards and downwards.
Crossings crossings_of(const Channel& channel, const ssm::Margins& margins, Frequencies unit);

/// The answer to a step at t = 0, over `seconds` or as long as something happens, and its figures
/// where it settles at a value that is not 0.
std::pair<Step, std::optional<ssm::StepInfo<double>>> step_of(const Channel& channel,
                                                              std::optional<double> seconds);

/// Factors k of the gain, between which the loop is stable.
struct GainRange {
  double from, to;
};
std::vector<GainRange> stable_gains(const Channel& channel, const ssm::Margins& margins);

/// The loop's poles for gains from 0 to `largest`, or to where nothing more is seen.
Locus locus_of(const Channel& channel, const ssm::Margins& margins, std::optional<double> largest);

}  // namespace plant
