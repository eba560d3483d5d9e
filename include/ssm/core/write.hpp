#pragma once

namespace ssm {

/// Whether a result replaces what its memory holds or is added to it.
enum class Write { overwrite, accumulate };

}  // namespace ssm
