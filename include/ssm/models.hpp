#pragma once

/// @defgroup models models: language models and classifiers
/// Whole models made of layers: language models, sequence classifiers, sampling, text generation in
/// one stream or many.

#include "ssm/models/drafts.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/language_model_in_pieces.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/mamba_lm_memory.hpp"
#include "ssm/models/sampling.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/models/sequence_classifier_in_pieces.hpp"
#include "ssm/models/speculation.hpp"
#include "ssm/models/stop_strings.hpp"
#include "ssm/models/stored_mamba_lm.hpp"
#include "ssm/models/text_generator.hpp"
#include "ssm/models/token_streams.hpp"
