#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qs {

/// What was written of a model.
struct ExportSummary {
    std::uint64_t bytes = 0;        ///< of all files
    std::uint64_t tensors = 0;      ///< as they are stored
    double bits_per_weight = 0;     ///< of the whole file: 8·bytes of tensors / parameters
    std::vector<std::string> notes; ///< what was done otherwise than asked for, a sentence each
};

} // namespace qs
