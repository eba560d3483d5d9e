#pragma once

/// The room models: language models, classifiers, sampling.

#include "ssm/models/language_model.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/sampling.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/models/text_generator.hpp"
