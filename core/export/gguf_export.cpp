#include "core/export/gguf_export.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/export/gguf_plan.h"
#include "core/formats/codec_dispatch.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

/// Weights that one task encodes into a buffer and writes, and those that it loads at a time, which stay in the caches.
constexpr std::uint64_t task_weights = std::uint64_t{1} << 18;
constexpr std::uint64_t tile_weights = std::uint64_t{1} << 13;
/// Bytes that one task copies.
constexpr std::uint64_t task_bytes = std::uint64_t{1} << 20;

/// Reads rows of a planned tensor in the order of the file.
class RowReader {
public:
    /// `weight`, in Hugging Face's order of rows, stands in for the checkpoint's tensor where it is not null.
    RowReader(const PlannedTensor& tensor, const Checkpoint& checkpoint, const Matrix* weight)
        : tensor_(tensor), checkpoint_(checkpoint), weight_(weight), shape_(tensor.matrix()) {}

    void load(std::uint64_t first, std::uint64_t count, float* out) const {
        const std::uint64_t begin = first * shape_.columns, size = count * shape_.columns;
        if (tensor_.interleaved_heads != 0)
            load_interleaved(begin, size, out);
        else if (tensor_.transposed && weight_ == nullptr)
            load_transposed(first, count, out);
        else
            load_run(begin, size, out);
        if (tensor_.offset != 0)
            for (std::uint64_t i = 0; i < size; ++i)
                out[i] += tensor_.offset;
    }

private:
    /// Of a bias every element is a row of its own.
    void load_interleaved(std::uint64_t begin, std::uint64_t size, float* out) const {
        const std::uint64_t width = tensor_.shape.size() == 1 ? 1 : shape_.columns;
        for (std::uint64_t at = 0; at < size; at += width) {
            const auto row = static_cast<Index>((begin + at) / width);
            const Index from = row_before_interleaving(row, tensor_.interleaved_heads);
            load_run(static_cast<std::uint64_t>(from) * width, width, out + at);
        }
    }

    void load_run(std::uint64_t begin, std::uint64_t size, float* out) const {
        if (weight_ != nullptr)
            std::copy_n(weight_->data() + begin, size, out);
        else if (!tensor_.source)
            std::copy_n(tensor_.values.data() + begin, size, out);
        else
            load_stored(begin, size, out);
    }

    void load_stored(std::uint64_t begin, std::uint64_t size, float* out) const {
        const TensorInfo& tensor = checkpoint_.tensors[*tensor_.source];
        load_weights(tensor.dtype, tensor.byte_swapped, checkpoint_.data(tensor).data(), begin,
                     static_cast<std::size_t>(size), out);
    }

    /// Row r of the file is column r of what is stored.
    void load_transposed(std::uint64_t first, std::uint64_t count, float* out) const {
        std::vector<float> piece(count);
        for (std::uint64_t column = 0; column < shape_.columns; ++column) {
            load_stored(column * shape_.rows + first, count, piece.data());
            for (std::uint64_t i = 0; i < count; ++i)
                out[i * shape_.columns + column] = piece[i];
        }
    }

    const PlannedTensor& tensor_;
    const Checkpoint& checkpoint_;
    const Matrix* weight_;
    TensorShape shape_;
};

/// Puts the bytes of a big-endian tensor into little endian.
void swap_bytes(DType dtype, std::span<std::byte> bytes) {
    auto* data = reinterpret_cast<std::uint8_t*>(bytes.data());
    const BlockLayout layout = block_layout(dtype);
    if (layout.elements == 1) {
        for (std::size_t at = 0; at < bytes.size(); at += layout.bytes)
            std::reverse(data + at, data + at + layout.bytes);
        return;
    }
    with_stored_codec(dtype, [&]<class Codec>(const Codec&) {
        for (std::size_t at = 0; at < bytes.size(); at += layout.bytes)
            swap_half_words<Codec>(data + at);
    });
}

/// Writes the data of the tensors of a plan.
class DataWriter {
public:
    DataWriter(const GgufPlan& plan, std::shared_ptr<const Checkpoint> checkpoint, const WeightHook& replacement,
               std::uint64_t data_begin, JobControl& job, AtomicFile& file)
        : plan_(plan), checkpoint_(std::move(checkpoint)), replacement_(replacement), data_begin_(data_begin),
          job_(job), file_(file) {}

    void run() {
        if (replacement_)
            reader_.emplace(checkpoint_, read_decoder_config(*checkpoint_));
        for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
            if (is_replaced(i))
                write_replaced(i);
            else
                add_tasks(i, nullptr);
        }
        run_tasks();
    }

private:
    /// Rows of a tensor, or bytes of one that is copied.
    struct Task {
        std::size_t tensor;
        std::uint64_t begin, end;
        const Matrix* weight;
        const TensorCodec* codec; ///< null: the tensor is copied
    };

    bool is_replaced(std::size_t index) const { return replacement_ && plan_.tensors[index].linear.has_value(); }

    void write_replaced(std::size_t index) {
        run_tasks();
        const LinearTensor& linear = *plan_.tensors[index].linear;
        Matrix weight = reader_->load(linear);
        replacement_(linear, weight);
        add_tasks(index, &weight);
        run_tasks();
    }

    void add_tasks(std::size_t index, const Matrix* weight) {
        const PlannedTensor& tensor = plan_.tensors[index];
        if (!tensor.format) {
            const std::uint64_t bytes = checkpoint_->tensors[*tensor.source].bytes;
            const std::uint64_t block = block_layout(tensor.type).bytes;
            add_tasks(index, bytes, std::max(task_bytes / block, std::uint64_t{1}) * block, weight, nullptr);
            return;
        }
        const TensorShape shape = tensor.matrix();
        if (shape.count() == 0)
            return;
        codecs_.push_back(bind_codec(*tensor.format, shape, tensor.importance));
        const std::uint64_t rows = rows_of_task(tensor, shape.columns);
        add_tasks(index, shape.rows, rows, weight, codecs_.back().get());
    }

    /// Whole heads where rows are reordered within them, so that a task's rows are the same ones in both orders.
    static std::uint64_t rows_of_task(const PlannedTensor& tensor, std::uint64_t columns) {
        const auto unit = static_cast<std::uint64_t>(std::max(tensor.interleaved_heads, Index{1}));
        return std::max(task_weights / std::max(columns, std::uint64_t{1}) / unit, std::uint64_t{1}) * unit;
    }

    void add_tasks(std::size_t index, std::uint64_t count, std::uint64_t step, const Matrix* weight,
                   const TensorCodec* codec) {
        for (std::uint64_t begin = 0; begin < count; begin += step)
            tasks_.push_back({index, begin, std::min(begin + step, count), weight, codec});
    }

    void run_tasks() {
        tbb::parallel_for(std::size_t{0}, tasks_.size(), [&](std::size_t i) {
            job_.check();
            const Task& task = tasks_[i];
            try {
                task.codec == nullptr ? copy(task) : encode(task);
            } catch (const Error& error) {
                throw Error(checkpoint_->path.string() + ": tensor " + plan_.tensors[task.tensor].name, error.what());
            }
        });
        tasks_.clear();
        codecs_.clear();
    }

    void encode(const Task& task) {
        const PlannedTensor& tensor = plan_.tensors[task.tensor];
        const TensorShape shape = tensor.matrix();
        const RowReader reader(tensor, *checkpoint_, task.weight);
        const std::uint64_t step = std::max(tile_weights / shape.columns, std::uint64_t{1});
        std::vector<float> tile(std::min(step, task.end - task.begin) * shape.columns);
        const std::uint64_t first = task.begin * shape.columns;
        std::vector<std::byte> bytes(task.codec->encoded_bytes(first, (task.end - task.begin) * shape.columns));
        std::size_t at = 0;
        for (std::uint64_t row = task.begin; row < task.end; row += step) {
            job_.check();
            const std::uint64_t count = std::min(step, task.end - row), begin = row * shape.columns;
            reader.load(row, count, tile.data());
            task.codec->encode(tile.data(), begin, count * shape.columns, bytes.data() + at);
            at += task.codec->encoded_bytes(begin, count * shape.columns);
        }
        const std::uint64_t before = task.codec->encoded_bytes(0, first);
        file_.write_at(data_begin_ + plan_.header.offset(task.tensor) + before, bytes);
        finish(task, share(task, shape.rows));
    }

    void copy(const Task& task) {
        const TensorInfo& tensor = checkpoint_->tensors[*plan_.tensors[task.tensor].source];
        const std::uint64_t size = task.end - task.begin;
        const std::uint64_t to = data_begin_ + plan_.header.offset(task.tensor) + task.begin;
        const auto stored = checkpoint_->data(tensor).subspan(task.begin, size);
        if (tensor.byte_swapped) {
            std::vector<std::byte> swapped(stored.begin(), stored.end());
            swap_bytes(tensor.dtype, swapped);
            file_.write_at(to, swapped);
        } else {
            file_.write_at(to, stored);
        }
        finish(task, {task.begin, size});
    }

    struct ByteRange {
        std::uint64_t begin, size;
    };

    /// The stored bytes of a task's rows.
    ByteRange share(const Task& task, std::uint64_t rows) const {
        const PlannedTensor& tensor = plan_.tensors[task.tensor];
        if (!tensor.source)
            return {0, 0};
        const std::uint64_t row_bytes = checkpoint_->tensors[*tensor.source].bytes / rows;
        return {task.begin * row_bytes, (task.end - task.begin) * row_bytes};
    }

    void finish(const Task& task, ByteRange bytes) {
        job_.advance(bytes.size);
        const PlannedTensor& tensor = plan_.tensors[task.tensor];
        if (!tensor.source || tensor.transposed || task.weight != nullptr)
            return;
        const TensorInfo& source = checkpoint_->tensors[*tensor.source];
        checkpoint_->files[source.file]->release(source.offset + bytes.begin, bytes.size);
    }

    const GgufPlan& plan_;
    std::shared_ptr<const Checkpoint> checkpoint_;
    const WeightHook& replacement_;
    std::uint64_t data_begin_;
    JobControl& job_;
    AtomicFile& file_;
    std::optional<WeightReader> reader_;
    std::vector<std::unique_ptr<TensorCodec>> codecs_;
    std::vector<Task> tasks_;
};

/// The padding behind the last tensor, which is written by none.
void write_end(const GgufPlan& plan, std::uint64_t data_begin, AtomicFile& file) {
    if (plan.tensors.empty())
        return;
    const std::size_t last = plan.tensors.size() - 1;
    const std::uint64_t end = plan.header.offset(last) + plan.header.size(last);
    const std::vector<std::byte> padding(plan.header.data_bytes() - end);
    file.write_at(data_begin + end, padding);
}

ExportSummary summary_of(const GgufPlan& plan, std::uint64_t data_begin) {
    ExportSummary summary;
    summary.bytes = data_begin + plan.header.data_bytes();
    summary.tensors = plan.tensors.size();
    summary.notes = plan.notes;
    double bytes = 0, parameters = 0;
    for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
        bytes += static_cast<double>(plan.header.size(i));
        parameters += static_cast<double>(plan.tensors[i].matrix().count());
    }
    summary.bits_per_weight = parameters > 0 ? 8 * bytes / parameters : 0;
    return summary;
}

} // namespace

ExportSummary export_gguf(const std::shared_ptr<const Checkpoint>& checkpoint, const GgufRequest& request,
                          Device& device, JobControl& job, AtomicFile& file) {
    const bool gguf = checkpoint->container.starts_with("GGUF");
    GgufPlan plan =
        gguf ? plan_of_gguf(checkpoint, static_cast<bool>(request.replacement)) : plan_of_hugging_face(checkpoint);
    choose_formats(plan, *checkpoint, request);
    std::uint64_t total = 0;
    for (const PlannedTensor& tensor : plan.tensors) {
        plan.header.add_tensor(tensor.name, tensor.shape, tensor.type);
        total += tensor.source ? checkpoint->tensors[*tensor.source].bytes : 0;
    }
    job.set_total(total);
    const std::vector<std::byte> header = plan.header.bytes();
    file.write_at(0, header);
    const int threads = device.info().threads;
    tbb::task_arena arena(threads > 0 ? threads : tbb::task_arena::automatic);
    arena.execute([&] { DataWriter(plan, checkpoint, request.replacement, header.size(), job, file).run(); });
    write_end(plan, header.size(), file);
    job.check();
    file.commit();
    return summary_of(plan, header.size());
}

} // namespace qs
