#include "core/model/device_machine.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace qs {

namespace {

const DeviceMatrix* or_null(const DeviceTensor& tensor) {
    return tensor.size() > 0 ? &tensor.matrix() : nullptr;
}

std::size_t count_of(Index count) {
    return static_cast<std::size_t>(count);
}

DeviceMatrix columns_of(const DeviceTensor& tensor, Index first, Index count) {
    return tensor.matrix().part(0, count_of(first), tensor.matrix().rows(), count_of(count));
}

DeviceMatrix rows_of(const DeviceTensor& tensor, Index first, Index count) {
    return tensor.matrix().part(count_of(first), 0, count_of(count), tensor.matrix().columns());
}

} // namespace

void DeviceTensor::resize(Algebra& algebra, Index rows, Index columns) {
    if (rows == this->rows() && columns == cols())
        return;
    const std::size_t needed = count_of(rows) * count_of(columns);
    if (!memory_ || memory_->rows() * memory_->columns() < needed) {
        memory_.reset();
        matrix_.reset();
        const DeviceMatrix made = algebra.make(DType::f32, count_of(rows), count_of(columns));
        // Where the device has no memory left, the algebra makes it on the host.
        if (made.place() == MatrixMemory::host && needed > 0)
            throw Error("the model", "does not fit in the memory of the GPU", "use --device cpu");
        memory_ = made;
    }
    matrix_ = memory_->reshaped(count_of(rows), count_of(columns));
}

void DeviceMachine::begin(std::shared_ptr<const RopeTables> tables) {
    if (tables_ == tables)
        return;
    tables_ = std::move(tables);
    turns_.clear();
}

// --- between the host and the device ---------------------------------------------------------------------------------

void DeviceMachine::upload_values(const float* from, Index rows, Index columns, DeviceTensor& to) {
    if (rows * columns == 0) {
        to = {};
        return;
    }
    resize(to, rows, columns);
    algebra().copy(host_matrix(from, count_of(rows), count_of(columns)), to.matrix());
}

void DeviceMachine::upload(const Norm& from, DeviceNorm& to) {
    upload(from.weight, to.weight);
    upload(from.bias, to.bias);
}

void DeviceMachine::upload(const LayerWeights& from, DeviceLayer& to) {
    to.layer = from.layer;
    for (std::size_t slot = 0; slot < slot_count; ++slot) {
        if (!from.linears[slot]) {
            to.linears[slot].reset();
            continue;
        }
        const Linear& linear = *from.linears[slot];
        DeviceLinear& copy = to.linears[slot] ? *to.linears[slot] : to.linears[slot].emplace();
        copy.tensor = linear.tensor;
        upload(linear.bias, copy.bias);
        copy.product = {};
        if (!linear.product)
            upload(linear.weight, copy.weight);
        else
            copy.product = [&linear](const qs::Matrix&, const qs::Matrix& in, qs::Matrix& out) {
                linear.product(linear.weight, in, out);
            };
    }
    const auto to_norms = norms_of(to);
    const auto from_norms = norms_of(from);
    for (std::size_t i = 0; i < from_norms.size(); ++i)
        upload(from.*from_norms[i], to.*to_norms[i]);
}

void DeviceMachine::upload(const Head& from, DeviceHead& to) {
    upload(from.norm, to.norm);
    upload(from.weight, to.weight);
}

void DeviceMachine::download(const DeviceTensor& from, qs::Matrix& to) {
    to.resize(from.rows(), from.cols());
    if (to.size() > 0)
        algebra().copy(from.matrix(), host_matrix(to.data(), count_of(to.rows()), count_of(to.cols())));
}

void DeviceMachine::download(const DeviceTensor& from, RowVector& to) {
    to.resize(from.cols());
    if (to.size() > 0)
        algebra().copy(from.matrix(), host_matrix(to.data(), 1, count_of(to.cols())));
}

// --- forward -------------------------------------------------------------------------------------------------------

Normalisation DeviceMachine::normalisation(std::size_t size) const {
    return {config_.norm == NormKind::layer, config_.norm_epsilon, size};
}

void DeviceMachine::normalise(const DeviceNorm& norm, const DeviceTensor& in, DeviceTensor& out) {
    resize(out, in.rows(), in.cols());
    math_.normalise(normalisation(in.matrix().columns()), in.matrix(), norm.weight.matrix(), or_null(norm.bias),
                    out.matrix());
}

void DeviceMachine::normalise_heads(const DeviceNorm& norm, DeviceTensor& heads) {
    math_.normalise(normalisation(norm.weight.matrix().columns()), heads.matrix(), norm.weight.matrix(),
                    or_null(norm.bias), heads.matrix());
}

void DeviceMachine::multiply(const DeviceTensor& in, const DeviceTensor& weight, DeviceTensor& out) {
    resize(out, in.rows(), weight.rows());
    algebra().product(1, in.matrix(), Op::none, weight.matrix(), Op::transposed, 0, out.matrix());
}

void DeviceMachine::multiply_by(const DeviceLinear& linear, const DeviceTensor& in, DeviceTensor& out) {
    if (!linear.product)
        return multiply(in, linear.weight, out);
    download(in, inputs_);
    linear.product({}, inputs_, outputs_);
    upload(outputs_, out);
}

void DeviceMachine::apply_unobserved(const DeviceLinear& linear, const DeviceTensor& in, DeviceTensor& out) {
    multiply_by(linear, in, out);
    if (linear.bias.size() > 0)
        math_.add_row(linear.bias.matrix(), out.matrix());
}

void DeviceMachine::apply(const DeviceLinear& linear, const DeviceTensor& in, DeviceTensor& out) {
    multiply_by(linear, in, out);
    if (observer_)
        observer_(linear, in, out);
    if (linear.bias.size() > 0)
        math_.add_row(linear.bias.matrix(), out.matrix());
}

void DeviceMachine::turn(const RopeTable& rope, std::span<const Sequence> sequences, bool back, DeviceTensor& heads) {
    auto& [cosines, sines] = turns_[&rope];
    if (cosines.size() == 0) {
        upload(rope.cosines, cosines);
        upload(rope.sines, sines);
    }
    math_.turn(sequences, count_of(first_), count_of(config_.head_dim), cosines.matrix(), sines.matrix(), back,
               heads.matrix());
}

void DeviceMachine::turn(const RopeTable& rope, std::span<const Sequence> sequences, DeviceTensor& heads) {
    turn(rope, sequences, false, heads);
}

AttentionShape DeviceMachine::attention_shape(int window) const {
    return {count_of(config_.heads), count_of(config_.kv_heads), count_of(config_.head_dim),
            config_.attention_scale, config_.attention_softcap,  count_of(window)};
}

void DeviceMachine::attend(int window, std::span<const Sequence> sequences, BasicActivations<DeviceTensor>& a) {
    resize(a.attended, a.q.rows(), a.q.cols());
    resize(a.log_sums, a.q.rows(), config_.heads);
    if (past_ != nullptr) {
        put_rows(a.k, first_, past_->keys);
        put_rows(a.v, first_, past_->values);
    }
    math_.attend(attention_shape(window), sequences, count_of(first_), a.q.matrix(),
                 (past_ != nullptr ? past_->keys : a.k).matrix(), (past_ != nullptr ? past_->values : a.v).matrix(),
                 a.attended.matrix(), a.log_sums.matrix());
}

void DeviceMachine::activate(const DeviceTensor& gate, const DeviceTensor& up, DeviceTensor& out) {
    resize(out, up.rows(), up.cols());
    math_.activate(config_.activation, config_.gated ? &gate.matrix() : nullptr, up.matrix(), out.matrix());
}

void DeviceMachine::sum(const DeviceTensor& a, const DeviceTensor& b, DeviceTensor& out) {
    assign(a, out);
    add(b, out);
}

void DeviceMachine::soft_cap(double cap, DeviceTensor& values) {
    if (cap != 0)
        math_.soft_cap(cap, values.matrix());
}

void DeviceMachine::assign(const DeviceTensor& from, DeviceTensor& to) {
    resize(to, from.rows(), from.cols());
    algebra().copy(from.matrix(), to.matrix());
}

void DeviceMachine::take_columns(const DeviceTensor& from, Index first, Index count, DeviceTensor& to) {
    resize(to, from.rows(), count);
    algebra().copy(columns_of(from, first, count), to.matrix());
}

void DeviceMachine::take_rows(const DeviceTensor& from, Index first, Index count, DeviceTensor& to) {
    resize(to, count, from.cols());
    algebra().copy(rows_of(from, first, count), to.matrix());
}

void DeviceMachine::put_rows(const DeviceTensor& from, Index first, DeviceTensor& to) {
    algebra().copy(from.matrix(), rows_of(to, first, from.rows()));
}

// --- backward ------------------------------------------------------------------------------------------------------

void DeviceMachine::clear(Index rows, Index columns, DeviceTensor& out) {
    resize(out, rows, columns);
    math_.clear(out.matrix());
}

void DeviceMachine::zeros_like(const DeviceNorm& norm, DeviceNorm& out) {
    clear(1, norm.weight.cols(), out.weight);
    if (norm.bias.size() > 0)
        clear(1, norm.bias.cols(), out.bias);
}

void DeviceMachine::backward_norm(const DeviceNorm& norm, const DeviceTensor& in, const DeviceTensor& d_out,
                                  DeviceNorm& gradient, DeviceTensor& d_in) {
    math_.backward_normalise(normalisation(in.matrix().columns()), in.matrix(), norm.weight.matrix(), d_out.matrix(),
                             gradient.weight.matrix(), or_null(gradient.bias), d_in.matrix(), false);
}

void DeviceMachine::backward_norm_heads(const DeviceNorm& norm, const DeviceTensor& before, DeviceNorm& gradient,
                                        DeviceTensor& d_heads) {
    math_.backward_normalise(normalisation(norm.weight.matrix().columns()), before.matrix(), norm.weight.matrix(),
                             d_heads.matrix(), gradient.weight.matrix(), or_null(gradient.bias), d_heads.matrix(),
                             true);
}

void DeviceMachine::backward_multiply(const DeviceTensor& in, const DeviceTensor& weight, const DeviceTensor& d_out,
                                      DeviceTensor* d_weight, DeviceTensor& d_in, bool add) {
    if (d_weight != nullptr)
        algebra().product(1, d_out.matrix(), Op::transposed, in.matrix(), Op::none, 1, d_weight->matrix());
    resize(d_in, d_out.rows(), weight.cols());
    algebra().product(1, d_out.matrix(), Op::none, weight.matrix(), Op::none, add ? 1 : 0, d_in.matrix());
}

void DeviceMachine::backward_linear(const DeviceLinear& linear, const DeviceTensor& in, const DeviceTensor& d_out,
                                    DeviceLinear& gradient, DeviceTensor& d_in, bool add) {
    if (gradient.bias.size() > 0)
        math_.add_sum_of_rows(d_out.matrix(), gradient.bias.matrix());
    backward_multiply(in, linear.weight, d_out, &gradient.weight, d_in, add);
}

void DeviceMachine::backward_attend(int window, std::span<const Sequence> sequences,
                                    const BasicActivations<DeviceTensor>& a, const DeviceTensor& d_out,
                                    DeviceTensor& d_q, DeviceTensor& d_k, DeviceTensor& d_v) {
    resize(d_q, a.q.rows(), a.q.cols());
    resize(d_k, a.k.rows(), a.k.cols());
    resize(d_v, a.v.rows(), a.v.cols());
    math_.backward_attend(attention_shape(window), sequences, a.q.matrix(), a.k.matrix(), a.v.matrix(),
                          a.attended.matrix(), a.log_sums.matrix(), d_out.matrix(), d_q.matrix(), d_k.matrix(),
                          d_v.matrix());
}

void DeviceMachine::turn_back(const RopeTable& rope, std::span<const Sequence> sequences, DeviceTensor& d_heads) {
    turn(rope, sequences, true, d_heads);
}

void DeviceMachine::backward_activate(const DeviceTensor& gate, const DeviceTensor& up, const DeviceTensor& d_out,
                                      DeviceTensor& d_gate, DeviceTensor& d_up) {
    resize(d_up, up.rows(), up.cols());
    if (config_.gated)
        resize(d_gate, up.rows(), up.cols());
    math_.backward_activate(config_.activation, config_.gated ? &gate.matrix() : nullptr, up.matrix(), d_out.matrix(),
                            config_.gated ? &d_gate.matrix() : nullptr, d_up.matrix());
}

void DeviceMachine::join(std::initializer_list<const DeviceTensor*> parts, DeviceTensor& out) {
    Index columns = 0;
    for (const DeviceTensor* part : parts)
        columns += part->cols();
    resize(out, (*parts.begin())->rows(), columns);
    Index column = 0;
    for (const DeviceTensor* part : parts) {
        algebra().copy(part->matrix(), columns_of(out, column, part->cols()));
        column += part->cols();
    }
}

void DeviceMachine::backward_soft_cap(double cap, const DeviceTensor& capped, DeviceTensor& d) {
    math_.backward_soft_cap(cap, capped.matrix(), d.matrix());
}

double DeviceMachine::losses(double scale, std::span<const int> targets, const DeviceTensor* teacher,
                             DeviceTensor& logits) {
    const std::vector<double> losses =
        math_.losses(scale, targets, teacher != nullptr ? &teacher->matrix() : nullptr, logits.matrix());
    return std::accumulate(losses.begin(), losses.end(), 0.0);
}

} // namespace qs
