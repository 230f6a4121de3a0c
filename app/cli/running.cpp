#include "app/cli/running.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "app/cli/table.h"

namespace qs::cli {

namespace {

using Clock = std::chrono::steady_clock;

std::atomic<JobControl*> current_job{nullptr};
std::atomic<int> signal_received{0};
static_assert(std::atomic<JobControl*>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

void on_signal(int signal) {
    signal_received = signal;
    if (JobControl* job = current_job.load())
        job->cancel();
}

void handle_signals(void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    // The next one finds the default again.
    action.sa_flags = handler == SIG_DFL ? 0 : static_cast<int>(SA_RESETHAND);
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

std::string time_text(double seconds) {
    const auto whole = static_cast<long>(seconds + 0.5);
    if (whole < 60)
        return fmt::format("{} s", whole);
    return whole < 3600 ? fmt::format("{}:{:02} min", whole / 60, whole % 60)
                        : fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

/// " 45.2 %  6.10 GB of 13.50 GB  3.21 GB/s  2 s left"
std::string progress_text(const JobControl& job, double seconds) {
    const auto total = static_cast<double>(job.total()), done = std::min(static_cast<double>(job.done()), total);
    if (total == 0 || done == 0)
        return "reading …";
    const double rate = done / std::max(seconds, 1e-3);
    return fmt::format("{:5.1f} %  {} of {}  {}/s  {} left", 100 * done / total, bytes_text(done), bytes_text(total),
                       bytes_text(rate), time_text((total - done) / rate));
}

} // namespace

RunningJob::RunningJob() {
    status_ = [this, start = Clock::now()] {
        return progress_text(job, std::chrono::duration<double>(Clock::now() - start).count());
    };
    start();
}

RunningJob::RunningJob(std::function<std::string()> status) : status_(std::move(status)) {
    start();
}

void RunningJob::start() {
    current_job = &job;
    handle_signals(on_signal);
    if (::isatty(STDERR_FILENO) != 0)
        watcher_ = std::thread([this] { show_until_done(); });
}

RunningJob::~RunningJob() {
    {
        const std::lock_guard lock(mutex_);
        done_ = true;
    }
    done_changed_.notify_one();
    if (watcher_.joinable())
        watcher_.join();
    handle_signals(SIG_DFL);
    current_job = nullptr;
}

void RunningJob::show_until_done() {
    constexpr const char* clear_line = "\r\x1b[K";
    std::unique_lock lock(mutex_);
    bool shown = false;
    while (!done_changed_.wait_for(lock, std::chrono::milliseconds(200), [this] { return done_; })) {
        std::fprintf(stderr, "%s%s", clear_line, status_().c_str());
        std::fflush(stderr);
        shown = true;
    }
    if (shown)
        std::fprintf(stderr, "%s", clear_line);
}

std::string progress_text(const JobControl& job) {
    const auto total = static_cast<double>(job.total()), done = static_cast<double>(job.done());
    return total > 0 ? fmt::format("{:5.1f} %", 100 * done / total) : "reading …";
}

int interrupting_signal() {
    return signal_received;
}

} // namespace qs::cli
