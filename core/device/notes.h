#pragma once

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

namespace qs {

/// What Device::notes() gives: added to by any thread; what was said once is not said again.
class Notes {
public:
    void add(std::string note) {
        const std::lock_guard lock(mutex_);
        if (std::find(notes_.begin(), notes_.end(), note) == notes_.end())
            notes_.push_back(std::move(note));
    }
    std::vector<std::string> all() const {
        const std::lock_guard lock(mutex_);
        return notes_;
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::string> notes_;
};

} // namespace qs
