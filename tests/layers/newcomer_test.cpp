// The layer of CONTRIBUTING.md, as it stands there, joins all that the library does with layers.

#include "leaky_integrator.hpp"

#include "ssm/io/save.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/stack.hpp"
#include "ssm/layers/streamer.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
