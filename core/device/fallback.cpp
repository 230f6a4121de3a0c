#include "core/device/fallback.h"

#include <atomic>
#include <type_traits>

#include "core/device/notes.h"

namespace qs {

namespace {

class FallbackDevice final : public Device {
public:
    FallbackDevice(std::unique_ptr<Device> device, int threads)
        : device_(std::move(device)), cpu_(make_cpu_device(threads)) {}

    DeviceInfo info() const override { return current().info(); }

    void for_each(std::size_t count, const std::function<void(std::size_t)>& body) override {
        current().for_each(count, body);
    }

    std::uint64_t divides_from() const override { return current().divides_from(); }

    TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) override {
        return attempt([&](Device& device) { return device.analyze(tensor, specs, job); });
    }

    HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                           std::size_t bins, JobControl& job) override {
        return attempt([&](Device& device) { return device.histogram(tensor, specs, low, high, bins, job); });
    }

    double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec, const float* importance,
                    std::uint16_t* codes, float* decoded, JobControl& job) override {
        return attempt(
            [&](Device& device) { return device.quantize(weights, shape, spec, importance, codes, decoded, job); });
    }

    double measure_read_gbps(int threads, JobControl& job) override {
        return current().measure_read_gbps(threads, job);
    }

    double measure_copy_gbps(JobControl& job) override { return current().measure_copy_gbps(job); }

    Algebra& algebra() override { return current().algebra(); }

    LayerMath* layer_math() override { return current().layer_math(); }

    void give_up_layer_math(const std::string& reason) override { device_->give_up_layer_math(reason); }

    BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                      JobControl& job) override {
        return current().bench(specs, operation, threads, job);
    }

    std::vector<std::string> notes() const override {
        std::vector<std::string> all = device_->notes();
        for (std::string& note : notes_.all())
            all.push_back(std::move(note));
        return all;
    }

private:
    Device& current() const { return failed_ ? *cpu_ : *device_; }

    /// A call that fails on the CPU too is the input's fault: the device is kept.
    template <class Work>
    std::invoke_result_t<Work, Device&> attempt(Work work) {
        if (failed_)
            return work(*cpu_);
        std::string reason;
        try {
            return work(*device_);
        } catch (const Cancelled&) {
            throw;
        } catch (const Error& error) {
            reason = error.reason();
        } catch (const std::exception& error) {
            reason = error.what();
        }
        auto result = work(*cpu_);
        if (!failed_.exchange(true)) {
            const DeviceInfo info = device_->info();
            notes_.add(info.name + " (" + info.id + ") has failed: " + reason + "; the CPU does the work instead");
        }
        return result;
    }

    std::unique_ptr<Device> device_, cpu_;
    std::atomic<bool> failed_{false};
    Notes notes_;
};

} // namespace

std::unique_ptr<Device> with_cpu_fallback(std::unique_ptr<Device> device, int threads) {
    if (device->info().kind == "cpu")
        return device;
    return std::make_unique<FallbackDevice>(std::move(device), threads);
}

} // namespace qs
