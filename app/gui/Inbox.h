#pragma once

#include <mutex>
#include <optional>
#include <utility>

namespace qs::gui {

/// What a job has found so far: the worker puts the newest state, the UI thread takes it when it next looks.
template <class State>
class Inbox {
public:
    void put(State state) {
        const std::lock_guard lock(mutex_);
        state_ = std::move(state);
    }
    std::optional<State> take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(state_, std::nullopt);
    }

private:
    std::mutex mutex_;
    std::optional<State> state_;
};

} // namespace qs::gui
