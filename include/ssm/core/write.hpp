#pragma once

namespace ssm {

/// Whether a result replaces what its memory holds or is added to it.
enum class Write {
  overwrite,  ///< replaces what was there
  accumulate  ///< is added to what was there
};

}  // namespace ssm
