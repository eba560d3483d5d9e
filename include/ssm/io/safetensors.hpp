#pragma once

/// @file
/// The safetensors format: an 8-byte little-endian length, a JSON header of that length, then the
/// elements of all tensors.
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/safetensors_writer.hpp"
