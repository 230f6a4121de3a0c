#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "core/base/error.h"
#include "core/device/device.h"
#include "core/device/notes.h"

namespace qs::test {

/// A CPU that goes by another name, and can be made to fail, to have notes and to be a little wrong: what a GPU does on
/// a bad day.
class NamedDevice final : public Device {
public:
    NamedDevice(std::string id, std::string kind, int threads) : cpu_(make_cpu_device(threads)), info_(cpu_->info()) {
        info_.name = "Made " + id;
        info_.id = std::move(id);
        info_.kind = std::move(kind);
    }

    std::atomic<int> works_for = -1; ///< calls before it fails; −1 for ever
    std::atomic<double> error_factor = 1;
    std::atomic<int> calls = 0;
    std::function<void()> while_working; ///< called in the middle of each call
    Notes said;

    DeviceInfo info() const override { return info_; }
    std::vector<std::string> notes() const override { return said.all(); }

    TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) override {
        work();
        TensorReport report = cpu_->analyze(tensor, specs, job);
        for (FormatResult& result : report.results)
            result.sums.sum_d2 *= error_factor;
        return report;
    }
    HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                           std::size_t bins, JobControl& job) override {
        work();
        return cpu_->histogram(tensor, specs, low, high, bins, job);
    }
    double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec, const float* importance,
                    std::uint16_t* codes, float* decoded, JobControl& job) override {
        work();
        return cpu_->quantize(weights, shape, spec, importance, codes, decoded, job);
    }
    Algebra& algebra() override { return cpu_->algebra(); }
    double measure_read_gbps(int, JobControl&) override { return 10; }
    BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                      JobControl& job) override {
        return cpu_->bench(specs, operation, threads, job);
    }

private:
    void work() {
        ++calls;
        if (while_working)
            while_working();
        int left = works_for;
        while (left > 0 && !works_for.compare_exchange_weak(left, left - 1)) {
        }
        if (left == 0)
            throw Error("CUDA", "the GPU has fallen off the bus", "use --device cpu");
    }

    std::unique_ptr<Device> cpu_;
    DeviceInfo info_;
};

} // namespace qs::test
