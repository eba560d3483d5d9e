#pragma once

/// Safetensors: an 8-byte little-endian length, a JSON header of that length, the raw tensors.
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/safetensors_writer.hpp"
