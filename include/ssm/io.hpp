#pragma once

/// @defgroup io io: files
/// Files of any layer, model or training run, in the safetensors format; arrays as NumPy writes and
/// reads them. ssm/io/inflate.hpp, which needs zlib, is not among these.

#include "ssm/io/checkpoint.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/config_json.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/json_text.hpp"
#include "ssm/io/model_config.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/npy.hpp"
#include "ssm/io/npy_header.hpp"
#include "ssm/io/npz.hpp"
#include "ssm/io/published_modes.hpp"
#include "ssm/io/published_s4.hpp"
#include "ssm/io/published_s4d.hpp"
#include "ssm/io/published_s5.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/safetensors_header.hpp"
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/safetensors_writer.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/io/state_dict.hpp"
#include "ssm/io/training_checkpoint.hpp"
#include "ssm/io/zip.hpp"
