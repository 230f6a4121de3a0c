#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "core/device/layer_math.h"
#include "core/model/backward.h"

namespace qs {

/// A matrix of float32 on a device. Its memory is kept when it becomes smaller; copies share it.
class DeviceTensor {
public:
    Index rows() const { return matrix_ ? static_cast<Index>(matrix_->rows()) : 0; }
    Index cols() const { return matrix_ ? static_cast<Index>(matrix_->columns()) : 0; }
    Index size() const { return rows() * cols(); }
    /// Not of an empty one.
    const DeviceMatrix& matrix() const { return *matrix_; }

    DeviceTensor() = default;
    explicit DeviceTensor(const DeviceMatrix& matrix) : memory_(matrix), matrix_(matrix) {}
    /// Values are those of nobody afterwards. Throws Error where the device has no memory left.
    void resize(Algebra& algebra, Index rows, Index columns);

private:
    std::optional<DeviceMatrix> memory_, matrix_; ///< all there is, and the part that is used
};

using DeviceLinear = BasicLinear<DeviceTensor, DeviceTensor>;
using DeviceNorm = BasicNorm<DeviceTensor>;
using DeviceLayer = BasicLayer<DeviceTensor, DeviceTensor>;
using DeviceHead = BasicHead<DeviceTensor, DeviceTensor>;

/// KeyValues on a device, but for their length.
struct DeviceKeyValues {
    DeviceTensor keys, values;
};

/// Does the steps of a decoder (LayerSteps, ModelSteps) by the LayerMath of a device. A linear layer with a product of
/// its own (Linear::product) is done on the CPU.
class DeviceMachine {
public:
    using Matrix = DeviceTensor;
    using Vector = DeviceTensor;
    /// As LinearObserver.
    using Observer = std::function<void(const DeviceLinear&, const DeviceTensor& inputs, const DeviceTensor& outputs)>;

    DeviceMachine(const DecoderConfig& config, LayerMath& math) : config_(config), math_(math) {}

    const DecoderConfig& config() const { return config_; }
    LayerMath& math() const { return math_; }
    void set_observer(Observer observer) { observer_ = std::move(observer); }
    /// Before texts are run: these rope tables are the only ones that are kept on the device.
    void begin(std::shared_ptr<const RopeTables> tables);
    /// From now on a batch is one sequence that goes on after the first `length` tokens of a layer's past, and is added
    /// to it.
    void set_past(DeviceKeyValues* past, Index length) {
        past_ = past;
        first_ = length;
    }

    // --- between the host and the device -----------------------------------------------------------------------------
    void upload(const qs::Matrix& from, DeviceTensor& to) { upload_values(from.data(), from.rows(), from.cols(), to); }
    void upload(const RowVector& from, DeviceTensor& to) { upload_values(from.data(), 1, from.cols(), to); }
    void upload(const Norm& from, DeviceNorm& to);
    /// The weights must outlive the copy where a linear layer has a product of its own.
    void upload(const LayerWeights& from, DeviceLayer& to);
    void upload(const Head& from, DeviceHead& to);
    void download(const DeviceTensor& from, qs::Matrix& to);
    void download(const DeviceTensor& from, RowVector& to);

    // --- forward ---------------------------------------------------------------------------------------------------
    void normalise(const DeviceNorm& norm, const DeviceTensor& in, DeviceTensor& out);
    void normalise_heads(const DeviceNorm& norm, DeviceTensor& heads);
    void apply(const DeviceLinear& linear, const DeviceTensor& in, DeviceTensor& out);
    void apply_unobserved(const DeviceLinear& linear, const DeviceTensor& in, DeviceTensor& out);
    /// A linear layer without its bias.
    void multiply_by(const DeviceLinear& linear, const DeviceTensor& in, DeviceTensor& out);
    void multiply(const DeviceTensor& in, const DeviceTensor& weight, DeviceTensor& out);
    void turn(const RopeTable& rope, std::span<const Sequence> sequences, DeviceTensor& heads);
    void attend(int window, std::span<const Sequence> sequences, BasicActivations<DeviceTensor>& a);
    void activate(const DeviceTensor& gate, const DeviceTensor& up, DeviceTensor& out);
    void add(const DeviceTensor& from, DeviceTensor& to) { math_.add(from.matrix(), to.matrix()); }
    void sum(const DeviceTensor& a, const DeviceTensor& b, DeviceTensor& out);
    void soft_cap(double cap, DeviceTensor& values);
    void assign(const DeviceTensor& from, DeviceTensor& to);
    void take_columns(const DeviceTensor& from, Index first, Index count, DeviceTensor& to);
    void take_rows(const DeviceTensor& from, Index first, Index count, DeviceTensor& to);
    void put_rows(const DeviceTensor& from, Index first, DeviceTensor& to);

    // --- backward --------------------------------------------------------------------------------------------------
    void clear(Index rows, Index columns, DeviceTensor& out);
    void zeros_like(const DeviceNorm& norm, DeviceNorm& out);
    void backward_norm(const DeviceNorm& norm, const DeviceTensor& in, const DeviceTensor& d_out, DeviceNorm& gradient,
                       DeviceTensor& d_in);
    void backward_norm_heads(const DeviceNorm& norm, const DeviceTensor& before, DeviceNorm& gradient,
                             DeviceTensor& d_heads);
    void backward_linear(const DeviceLinear& linear, const DeviceTensor& in, const DeviceTensor& d_out,
                         DeviceLinear& gradient, DeviceTensor& d_in, bool add);
    void backward_multiply(const DeviceTensor& in, const DeviceTensor& weight, const DeviceTensor& d_out,
                           DeviceTensor* d_weight, DeviceTensor& d_in, bool add);
    void backward_attend(int window, std::span<const Sequence> sequences, const BasicActivations<DeviceTensor>& a,
                         const DeviceTensor& d_out, DeviceTensor& d_q, DeviceTensor& d_k, DeviceTensor& d_v);
    void turn_back(const RopeTable& rope, std::span<const Sequence> sequences, DeviceTensor& d_heads);
    void backward_activate(const DeviceTensor& gate, const DeviceTensor& up, const DeviceTensor& d_out,
                           DeviceTensor& d_gate, DeviceTensor& d_up);
    void join(std::initializer_list<const DeviceTensor*> parts, DeviceTensor& out);
    void backward_soft_cap(double cap, const DeviceTensor& capped, DeviceTensor& d);
    double losses(double scale, std::span<const int> targets, const DeviceTensor* teacher, DeviceTensor& logits);

private:
    Algebra& algebra() { return math_.algebra(); }
    void resize(DeviceTensor& tensor, Index rows, Index columns) { tensor.resize(algebra(), rows, columns); }
    void upload_values(const float* from, Index rows, Index columns, DeviceTensor& to);
    void turn(const RopeTable& rope, std::span<const Sequence> sequences, bool back, DeviceTensor& heads);
    Normalisation normalisation(std::size_t size) const;
    AttentionShape attention_shape(int window) const;

    const DecoderConfig& config_;
    LayerMath& math_;
    Observer observer_;
    DeviceKeyValues* past_ = nullptr;
    Index first_ = 0;                          ///< the position of a sequence's first token
    std::shared_ptr<const RopeTables> tables_; ///< of the texts that are run
    std::map<const RopeTable*, std::pair<DeviceTensor, DeviceTensor>> turns_; ///< those, as they are on the device
    qs::Matrix inputs_, outputs_;                                             ///< of a product on the CPU
};

} // namespace qs
