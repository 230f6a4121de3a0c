#pragma once

#include <cstddef>
#include <functional>

namespace qs {

/// Calls body(0) … body(count − 1) on at most `threads` threads, of which the caller's is one; returns when all are
/// done. After a call has thrown no other begins, and what it threw is rethrown. For calls that wait for something
/// else than the CPU: that is for TBB to divide.
void for_each_on_threads(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& body);

} // namespace qs
