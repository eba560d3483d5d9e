#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/layers/tokens.hpp"

namespace ssm {

/// How the next token is drawn from the logits. The defaults draw from the softmax as it is.
struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; 0: always the most likely token
  Index top_k = 0;         ///< only the k most likely; 0: all
  double top_p = 1;        ///< only the smallest set with probability ≥ top_p, in (0, 1]
  double min_p = 0;  ///< only those at least min_p times as likely as the likeliest, in [0, 1]
  double repetition_penalty = 1;  ///< ≥ 1; logits of recent tokens l > 0 become l/penalty,
                                  ///< l·penalty else (Keskar et al. 2019, section 4.1)
  Index repetition_window = 64;   ///< how many of the last tokens count as recent
  std::uint64_t seed = 0;         ///< of the random numbers
  Index tokens = 0;  ///< only the first so many tokens: those that a tokenizer knows, where the
                     ///< vocabulary was padded; 0: all
};

namespace detail {

/// Throws DomainError for an option out of range, or a vocabulary that tokens cannot number.
inline void check_sampling(const char* function, Index vocab, const SamplingOptions& options) {
  const auto check = [&](const char* argument, double value, bool valid, const char* want) {
    if (!valid) throw_domain(function, argument, std::to_string(value), want);
  };
  check("vocab", static_cast<double>(vocab),
        vocab >= 1 && vocab <= (std::numeric_limits<Token>::max)(), "from 1 to 2^31 - 1");
  check("temperature", options.temperature,
        std::isfinite(options.temperature) && options.temperature >= 0, "finite, at least 0");
  check("top_k", static_cast<double>(options.top_k), options.top_k >= 0, "at least 0");
  check("top_p", options.top_p, options.top_p > 0 && options.top_p <= 1, "in (0, 1]");
  check("min_p", options.min_p, options.min_p >= 0 && options.min_p <= 1, "in [0, 1]");
  check("repetition_penalty", options.repetition_penalty,
        std::isfinite(options.repetition_penalty) && options.repetition_penalty >= 1,
        "finite, at least 1");
  check("repetition_window", static_cast<double>(options.repetition_window),
        options.repetition_window >= 0, "at least 0");
  check("tokens", static_cast<double>(options.tokens),
        options.tokens >= 0 && options.tokens <= vocab, "at most the vocabulary");
}

}  // namespace detail
}  // namespace ssm
