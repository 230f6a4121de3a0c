#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/job.h"

namespace qs::cli {

/// A job of the command line: while it lives, Ctrl-C (or SIGTERM) cancels `job`, and a line on standard error tells
/// how far it is, if that is a terminal. A second Ctrl-C ends the program as usual. One at a time.
class RunningJob {
public:
    /// The line shows bytes, rate and time left.
    RunningJob();
    /// The line shows what `status` returns, which is called from another thread.
    explicit RunningJob(std::function<std::string()> status);
    ~RunningJob();
    RunningJob(const RunningJob&) = delete;
    RunningJob& operator=(const RunningJob&) = delete;

    JobControl job;

private:
    void start();
    void show_until_done();

    std::function<std::string()> status_;
    std::mutex mutex_;
    std::condition_variable done_changed_;
    bool done_ = false;
    std::thread watcher_;
};

/// How far a job is, in percent: what a RunningJob's line may show.
std::string progress_text(const JobControl& job);

/// The signal that cancelled a job, 0 if none did.
int interrupting_signal();

} // namespace qs::cli
