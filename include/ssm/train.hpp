#pragma once

/// @defgroup train train: optimizer, schedules, trainers
/// Training of any layer or model: AdamW, schedules, clipping, averaging, and trainers that own all
/// of these.

#include "ssm/train/average.hpp"
#include "ssm/train/clip.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/optimizer.hpp"
#include "ssm/train/pieces.hpp"
#include "ssm/train/rename.hpp"
#include "ssm/train/schedule.hpp"
#include "ssm/train/text_streams.hpp"
#include "ssm/train/text_trainer.hpp"
#include "ssm/train/text_view.hpp"
#include "ssm/train/trainer.hpp"
