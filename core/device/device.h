#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/analysis/report.h"
#include "core/base/job.h"
#include "core/checkpoint/checkpoint.h"
#include "core/device/algebra.h"
#include "core/device/layer_math.h"

namespace qs {

/// What `devices` says of one processor, or of several that work as one.
struct DeviceInfo {
    std::string id; ///< "cpu", "cuda:0"; "cuda" for all GPUs together
    std::string name;
    std::string kind; ///< "cpu" or "cuda"
    std::uint64_t memory_bytes = 0;
    std::string instructions;       ///< cpu: "avx512", "avx2", …
    std::string compute_capability; ///< cuda: "9.0"
    int threads = 0;                ///< cpu
    int members = 1;                ///< processors that it stands for
    bool usable = false;
    std::string reason; ///< why not, or empty
};

/// A stored tensor to be read by a device.
struct TensorView {
    DType dtype = DType::f32;
    bool byte_swapped = false;
    const std::byte* data = nullptr;
    TensorShape shape;
    const MappedFile* file = nullptr;  ///< where `data` lies, so that pages can be released after use; may be null
    const float* importance = nullptr; ///< of each column of each matrix (imatrix.h), for the formats that use it
};

/// Counts of equal-width bins over [low, high]; what lies outside is counted beside.
struct Histogram {
    double low = 0, high = 0;
    std::vector<std::uint64_t> counts;
    std::uint64_t below = 0, above = 0, nonfinite = 0;

    double edge(std::size_t i) const; ///< i in 0 … counts.size()
};

/// Weights and, for each spec, their reconstruction on the same bins.
struct HistogramSet {
    Histogram weights;
    std::vector<Histogram> reconstructions;
};

/// One throughput measurement of `bench`.
struct BenchResult {
    std::string format;    ///< spec text, or several joined by commas
    std::string operation; ///< "encode", "decode", "encode+error", "encode+error, fused"
    int threads = 0;
    double weights_per_second = 0;
    double input_gbps = 0; ///< 10⁹ bytes read a second: of stored codes for decode, else of bf16 weights
    std::string skipped;   ///< why nothing was measured, or empty
};

/// Does the arithmetic of the analysis, one tensor at a time. Results are the same on every device (codes identical,
/// sums to 1e-9) and do not depend on the number of threads. All calls are thread-safe and cancellable.
class Device {
public:
    virtual ~Device() = default;
    virtual DeviceInfo info() const = 0;

    /// Calls body(0) … body(count − 1), as many at once as helps this device; returns when all are done. What `body`
    /// throws is rethrown. The base version calls them in order.
    virtual void for_each(std::size_t count, const std::function<void(std::size_t)>& body);

    /// Tensors of more weights than this keep the whole device busy: for_each() is not to be called for them.
    virtual std::uint64_t divides_from() const { return ~std::uint64_t{0}; }

    /// Statistics of the tensor and, for each spec, error sums and code usage, in as few passes over it as the
    /// specs allow. Calls job.advance() with bytes of input as it goes.
    virtual TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) = 0;

    /// Histogram of the weights over [low, high] and of each spec's reconstruction.
    virtual HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                                   std::size_t bins, JobControl& job) = 0;

    /// Codes and reconstruction of a whole matrix of float32 (either may be null), and the bits it takes.
    /// `spec` must be effective for `shape`; `importance` is null or of each column.
    virtual double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec,
                            const float* importance, std::uint16_t* codes, float* decoded, JobControl& job) = 0;

    /// Dense linear algebra, done here where that is possible.
    virtual Algebra& algebra() = 0;
    /// The steps of a decoder; null where the CPU's own (core/model) are to be taken.
    virtual LayerMath* layer_math() { return nullptr; }
    /// layer_math() has failed where the CPU has not: it is null from now on, and notes() says why.
    virtual void give_up_layer_math(const std::string& /*reason*/) {}

    /// Best read bandwidth of this device's memory in GB/s (10⁹ bytes), measured now with `threads` threads.
    virtual double measure_read_gbps(int threads, JobControl& job) = 0;
    /// Rate at which the host's memory is copied to the device's, in GB/s; 0 where they are the same.
    virtual double measure_copy_gbps(JobControl&) { return 0; }
    /// Throughput of one operation, measured now on input larger than the caches (less only where a format is too slow
    /// for the memory to matter): `encode` from bf16 weights to stored bytes, `decode` from those to float32 in a small
    /// buffer, `encode+error` from bf16 weights to error sums; the last of several formats in one pass over each tile.
    /// `stream+error` is the same from weights in host memory, where that is not the device's own.
    virtual BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                              JobControl& job) = 0;

    /// What this device did otherwise than asked for since it was made, a sentence without a full stop each: out of
    /// memory, so that a tensor went through in smaller pieces. Results are the same; see Notes.
    virtual std::vector<std::string> notes() const { return {}; }
};

/// The CPU, with at most `threads` threads (0: all).
std::unique_ptr<Device> make_cpu_device(int threads = 0);

/// The CPU, all usable CUDA devices together where there are several, and every single one, usable or not (with the
/// reason).
std::vector<DeviceInfo> list_devices();

/// `auto` (all usable GPUs, else the CPU), `cpu`, `cuda` (all usable GPUs) or `cuda:N`. Throws Error with the reason.
std::unique_ptr<Device> make_device(const std::string& id, int threads = 0);

// --- The CUDA module -------------------------------------------------------------------------------------------

/// What the module quantoscope-cuda.so gives through its one C entry point `quantoscope_cuda_module`.
struct CudaModule {
    int abi; ///< must equal cuda_module_abi
    std::vector<DeviceInfo> (*list)();
    std::unique_ptr<Device> (*make)(int ordinal);
};
inline constexpr int cuda_module_abi = 8;

} // namespace qs
