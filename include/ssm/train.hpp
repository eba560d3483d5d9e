#pragma once

/// The room train: optimizer, schedules, trainers.

#include "ssm/train/average.hpp"
#include "ssm/train/clip.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/optimizer.hpp"
#include "ssm/train/pieces.hpp"
#include "ssm/train/rename.hpp"
#include "ssm/train/schedule.hpp"
#include "ssm/train/text_streams.hpp"
#include "ssm/train/text_trainer.hpp"
#include "ssm/train/trainer.hpp"
