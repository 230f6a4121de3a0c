#include "gpu/device.h"

#include <condition_variable>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/base/parallel.h"
#include "core/device/notes.h"
#include "gpu/algebra.h"
#include "gpu/analysis.h"
#include "gpu/bench.h"
#include "gpu/cuda.h"
#include "gpu/feed.h"
#include "gpu/layer_math.h"
#include "gpu/workspace.h"

namespace qs::cuda {

namespace {

/// The workspaces of a device, each lent to one call at a time. Two, so that the host's share of one tensor passes
/// while the device works on another.
class Workspaces {
public:
    static constexpr std::size_t count = 2;

    Workspace& take(Residents& residents) {
        std::unique_lock lock(mutex_);
        freed_.wait(lock, [&] { return !idle_.empty() || made_.size() < count; });
        if (idle_.empty())
            idle_.push_back(made_.emplace_back(std::make_unique<Workspace>(residents)).get());
        Workspace* work = idle_.back();
        idle_.pop_back();
        return *work;
    }

    void give_back(Workspace& work) {
        {
            const std::lock_guard lock(mutex_);
            idle_.push_back(&work);
        }
        freed_.notify_one();
    }

    /// Frees what those that nobody uses hold.
    void clear_idle() {
        const std::lock_guard lock(mutex_);
        for (Workspace* work : idle_)
            work->clear();
    }

private:
    std::mutex mutex_;
    std::condition_variable freed_;
    std::vector<std::unique_ptr<Workspace>> made_;
    std::vector<Workspace*> idle_;
};

/// Where memory is short a tensor goes through in smaller pieces, and where even those do not fit the CPU does it.
/// Tensors that the GPU cannot read are left to the CPU too.
class CudaDevice final : public Device {
public:
    explicit CudaDevice(int ordinal, const DeviceInfo& info)
        : ordinal_(ordinal), info_(info), residents_(info.memory_bytes / 2) {}

    DeviceInfo info() const override { return info_; }

    /// As many at once as there are workspaces.
    void for_each(std::size_t count, const std::function<void(std::size_t)>& body) override {
        for_each_on_threads(count, Workspaces::count, body);
    }

    std::uint64_t divides_from() const override { return ~std::uint64_t{0}; }

    TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) override {
        const auto on_cpu = [&] { return cpu_->analyze(tensor, specs, job); };
        if (!can_convert(tensor.dtype))
            return on_cpu();
        return run(
            tensor.shape, job, [&](Workspace& work) { return cuda::analyze(work, tensor, specs, job); }, on_cpu);
    }

    HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                           std::size_t bins, JobControl& job) override {
        if (bins == 0 || !(low < high))
            throw Error("histogram", "needs at least one bin and a range that is not empty");
        if (bins > max_bins)
            throw Error("histogram", "has more than " + std::to_string(max_bins) + " bins", "ask for fewer bins");
        const auto on_cpu = [&] { return cpu_->histogram(tensor, specs, low, high, bins, job); };
        if (!can_convert(tensor.dtype))
            return on_cpu();
        const auto here = [&](Workspace& work) {
            return cuda::histogram(work, tensor, specs, low, high, static_cast<unsigned>(bins), job);
        };
        return run(tensor.shape, job, here, on_cpu);
    }

    double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec, const float* importance,
                    std::uint16_t* codes, float* decoded, JobControl& job) override {
        return run(
            shape, job,
            [&](Workspace& work) {
                return cuda::quantize(work, weights, shape, spec, importance, codes, decoded, job);
            },
            [&] { return cpu_->quantize(weights, shape, spec, importance, codes, decoded, job); });
    }

    Algebra& algebra() override { return *algebra_; }

    LayerMath* layer_math() override {
        const std::lock_guard lock(layer_math_mutex_);
        if (!layer_math_ && !without_layer_math_) {
            without_layer_math_ = algebra_->queue() == nullptr;
            if (without_layer_math_)
                notes_.add("the CPU runs the model instead of " + info_.id + ": " + algebra_->description());
            else
                layer_math_ = make_cuda_layer_math(ordinal_, *algebra_);
        }
        return without_layer_math_ ? nullptr : layer_math_.get();
    }

    void give_up_layer_math(const std::string& reason) override {
        const std::lock_guard lock(layer_math_mutex_);
        without_layer_math_ = true;
        notes_.add("the CPU runs the model instead of " + info_.id + ": " + reason);
    }

    double measure_read_gbps(int, JobControl& job) override {
        return borrow([&](Workspace& work) { return cuda::measure_read_gbps(work, job); });
    }

    double measure_copy_gbps(JobControl& job) override {
        return borrow([&](Workspace& work) { return cuda::measure_copy_gbps(work, job); });
    }

    BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int, JobControl& job) override {
        return borrow([&](Workspace& work) { return cuda::bench(work, specs, operation, job); });
    }

    std::vector<std::string> notes() const override { return notes_.all(); }

private:
    static constexpr std::size_t max_bins = std::size_t{1} << 24;
    /// Parts of the usual piece that are tried in turn.
    static constexpr std::uint64_t divisors[] = {1, 1, 8, 64};

    /// Lends a workspace of this device, current for the calling thread, to `body`.
    template <class Body>
    std::invoke_result_t<Body, Workspace&> borrow(Body body) {
        const CurrentDevice current(ordinal_);
        struct Loan {
            Workspaces& all;
            Workspace& work;
            ~Loan() { all.give_back(work); }
        } loan{workspaces_, workspaces_.take(residents_)};
        loan.work.scratch.rewind();
        return body(loan.work);
    }

    template <class Here, class OnCpu>
    std::invoke_result_t<OnCpu> run(const TensorShape& shape, JobControl& job, Here here, OnCpu on_cpu) {
        bool short_of_memory = false;
        for (const std::uint64_t divisor : divisors) {
            std::uint64_t advanced = 0;
            try {
                return borrow([&](Workspace& work) {
                    work.piece_weights = usual_piece_weights / divisor;
                    work.advanced = 0;
                    try {
                        auto result = here(work);
                        if (divisor > 1)
                            note(shape, "was done in pieces of " + std::to_string(work.piece_weights) + " weights");
                        return result;
                    } catch (...) {
                        advanced = work.advanced;
                        work.clear();
                        throw;
                    }
                });
            } catch (const OutOfMemory&) {
                short_of_memory = true;
                workspaces_.clear_idle();
                // What has been reported as done is to be done again.
                job.advance(0 - advanced);
            }
        }
        if (short_of_memory)
            note(shape, "was done on the CPU");
        return on_cpu();
    }

    void note(const TensorShape& shape, const std::string& what) {
        notes_.add("out of memory on " + info_.name + " (" + info_.id + "): a matrix of " + std::to_string(shape.rows) +
                   " x " + std::to_string(shape.columns) + " " + what);
    }

    std::unique_ptr<Device> cpu_ = make_cpu_device();
    int ordinal_;
    DeviceInfo info_;
    Residents residents_;
    Workspaces workspaces_;
    std::unique_ptr<QueuedAlgebra> algebra_ = make_cuda_algebra(ordinal_, cpu_->algebra());
    std::mutex layer_math_mutex_;
    std::unique_ptr<LayerMath> layer_math_;
    bool without_layer_math_ = false;
    Notes notes_;
};

} // namespace

std::unique_ptr<Device> make_cuda_device(int ordinal, const DeviceInfo& info) {
    return std::make_unique<CudaDevice>(ordinal, info);
}

} // namespace qs::cuda
