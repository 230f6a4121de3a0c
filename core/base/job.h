#pragma once

#include <atomic>
#include <cstdint>

#include "core/base/error.h"

namespace qs {

/// Shared between a running job and whoever watches it: cancellation one way, progress the other. Thread-safe.
class JobControl {
public:
    JobControl() = default;
    /// A part of another job, which must outlive it: cancelled with it, but with progress of its own.
    explicit JobControl(const JobControl* whole) : whole_(whole) {}

    void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
    bool cancelled() const {
        return cancelled_.load(std::memory_order_relaxed) || (whole_ != nullptr && whole_->cancelled());
    }

    /// Throws Cancelled once cancel() was called. Jobs call it at least every few milliseconds of work.
    void check() const {
        if (cancelled())
            throw Cancelled();
    }

    void set_total(std::uint64_t bytes) { total_.store(bytes, std::memory_order_relaxed); }
    void advance(std::uint64_t bytes) { done_.fetch_add(bytes, std::memory_order_relaxed); }
    /// Bytes of input to process and processed so far.
    std::uint64_t total() const { return total_.load(std::memory_order_relaxed); }
    std::uint64_t done() const { return done_.load(std::memory_order_relaxed); }

private:
    const JobControl* whole_ = nullptr;
    std::atomic<bool> cancelled_{false};
    std::atomic<std::uint64_t> total_{0};
    std::atomic<std::uint64_t> done_{0};
};

} // namespace qs
