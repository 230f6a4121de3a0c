#pragma once

#include <tbb/task_arena.h>

#include <memory>

#include "core/device/algebra.h"

namespace qs {

/// The algebra of the CPU, with the threads of `arena`, which must outlive it.
std::unique_ptr<Algebra> make_cpu_algebra(tbb::task_arena& arena);

} // namespace qs
