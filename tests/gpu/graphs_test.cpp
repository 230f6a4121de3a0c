#include <QtTest>

#include <dlfcn.h>

#include <cstring>
#include <numeric>
#include <random>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/mapped_file.h"
#include "core/device/device.h"
#include "core/formats/registry.h"
#include "tests/gpu/emulated_setting.h"

using namespace qs;

namespace {

/// A tensor in the host's memory.
struct Stored {
    DType dtype;
    bool byte_swapped;
    TensorShape shape;
    std::vector<std::byte> bytes;

    TensorView view() const { return {dtype, byte_swapped, bytes.data(), shape}; }
};

/// Normal weights, one of them an outlier, other ones for each `seed`.
Stored drawn(DType dtype, bool byte_swapped, TensorShape shape, unsigned seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> distribution(0.001F, 0.02F);
    Stored tensor{dtype, byte_swapped, shape, {}};
    const std::size_t bytes = block_layout(dtype).bytes;
    for (std::uint64_t i = 0; i < shape.count(); ++i) {
        const float w = (i == seed ? 20 : 1) * distribution(random);
        const std::uint16_t half = dtype == DType::bf16 ? float_to_bf16(w) : float_to_fp16(w);
        std::byte word[4];
        if (bytes == 4)
            std::memcpy(word, &w, 4);
        else
            std::memcpy(word, &half, 2);
        for (std::size_t byte = 0; byte < bytes; ++byte)
            tensor.bytes.push_back(word[byte_swapped ? bytes - 1 - byte : byte]);
    }
    return tensor;
}

/// A tensor of q8_0 blocks.
Stored drawn_q8_0(TensorShape shape, unsigned seed) {
    std::mt19937_64 random(seed);
    Stored tensor{DType::q8_0, false, shape, std::vector<std::byte>(shape.count() / 32 * 34)};
    for (std::byte& byte : tensor.bytes)
        byte = static_cast<std::byte>(random());
    for (std::size_t at = 0; at < tensor.bytes.size(); at += 34) {
        const std::uint16_t scale = float_to_fp16(1e-3F * static_cast<float>(1 + random() % 9));
        std::memcpy(&tensor.bytes[at], &scale, 2);
    }
    return tensor;
}

template <class T>
bool same_bits(const T& a, const T& b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// The first thing that differs, or nothing.
QString difference(const TensorReport& a, const TensorReport& b) {
    if (!same_bits(a.statistics, b.statistics))
        return "statistics";
    for (std::size_t i = 0; i < a.results.size(); ++i) {
        const FormatResult &x = a.results[i], &y = b.results[i];
        if (x.spec != y.spec || x.fallback != y.fallback || x.stored_bits != y.stored_bits ||
            !same_bits(x.sums, y.sums) || x.usage != y.usage)
            return QString::fromStdString(x.spec.text());
    }
    return a.results.size() == b.results.size() ? QString() : "number of formats";
}

/// What the host asked of an emulated GPU.
struct Counts {
    unsigned long long launches = 0, graphs = 0, waits = 0;
    bool operator==(const Counts&) const = default;
};

char* toString(const Counts& counts) {
    return qstrdup(qPrintable(
        QString("%1 launches, %2 graphs, %3 waits").arg(counts.launches).arg(counts.graphs).arg(counts.waits)));
}

} // namespace

/// Small tensors, which go through graphs from the second of a kind on, give to the last bit what the first of a kind
/// gives on a fresh device.
class GraphsTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        for (const DeviceInfo& info : list_devices())
            if (info.kind == "cuda" && info.usable && id_.empty())
                id_ = info.id;
        if (id_.empty())
            QSKIP("there is no usable CUDA device");
        // There where the device is an emulated one, which has been loaded with the module.
        make_device(id_);
        if (void* runtime = ::dlopen("libemulated-cuda.so", RTLD_NOW | RTLD_NOLOAD))
            counts_of_gpu_ = reinterpret_cast<CountsOfGpu*>(::dlsym(runtime, "quantoscope_emulated_counts"));
    }

    void init() { device_ = make_device(id_); }

    void one_launch_and_one_wait_from_the_third_on() {
        if (counts_of_gpu_ == nullptr)
            QSKIP("takes an emulated GPU");
        const auto specs = parse_specs("nf4,int8,int4:group=100,q4_K,fp8_e4m3,iq4_xs,mxfp4");
        for (unsigned seed = 0; seed < 5; ++seed) {
            const Counts counts = count([&] { check(drawn(DType::bf16, false, {40, 1024}, seed), specs); });
            if (seed == 0)
                QCOMPARE(counts.graphs, 0ULL);
            if (seed == 1)
                QCOMPARE(counts.graphs, 1ULL);
            if (seed >= 2)
                QCOMPARE(counts, (Counts{0, 1, 1}));
        }
    }

    /// Shapes, types and formats change from tensor to tensor; each kind is seen three times.
    void kinds_in_turn() {
        const char* formats[] = {"nf4,q4_0,fp16", "int8,q6_K,q2_K,mxint8", "iq2_s,fp4,q5_1,tq1_0"};
        const TensorShape shapes[] = {{20, 1024}, {3, 256}, {1, 20001}, {57, 100}, {256, 40}, {1, 1}};
        constexpr unsigned other_formats = 2;
        for (unsigned round = 0; round < 4; ++round) {
            const auto check_all = [&] {
                for (const TensorShape& shape : shapes) {
                    const std::uint64_t choice = shape.rows + (round == other_formats ? 1 : 0);
                    const auto specs = parse_specs(formats[choice % std::size(formats)]);
                    check(drawn(DType::f32, false, shape, round), specs);
                    check(drawn(DType::bf16, true, shape, round), specs);
                    if (shape.columns % 32 == 0)
                        check(drawn_q8_0(shape, round), specs);
                }
            };
            const Counts counts = count(check_all);
            if (counts_of_gpu_ != nullptr)
                QCOMPARE(counts.graphs, round == 0 || round == other_formats ? 0ULL : 14ULL);
        }
    }

    /// A recording names buffers that are no longer there.
    void buffers_that_grow_in_between() {
        const auto specs = parse_specs("nf4,int8,q4_0,int4:group=100");
        for (unsigned seed = 0; seed < 8; ++seed) {
            const Counts counts = count([&] { check(drawn(DType::f32, false, {16, 512}, seed), specs); });
            if (counts_of_gpu_ != nullptr)
                QCOMPARE(counts.graphs, seed == 0 ? 0ULL : 1ULL);
            if (seed == 2)
                check(drawn(DType::f32, false, {200, 512}, seed), specs);
            if (seed == 4)
                check(drawn(DType::f32, true, {300, 512}, seed), parse_specs("int8,int4:group=100,int8:scope=tensor"));
            if (seed == 6)
                check(drawn(DType::f32, false, {16, 512}, seed), parse_specs("nf4,int8,q4_0,int4:group=100,fp16,bf16"));
        }
    }

    void formats_that_ask_the_host_take_no_graph_data() {
        QTest::addColumn<QString>("spec");
        for (const char* spec : {"nf4:dq", "nvfp4", "llm_int8:threshold=0.05"})
            QTest::newRow(spec) << spec;
    }

    void formats_that_ask_the_host_take_no_graph() {
        QFETCH(QString, spec);
        const auto specs = parse_specs("int8," + spec.toStdString());
        const Counts counts = count([&] {
            for (unsigned seed = 0; seed < 4; ++seed)
                check(drawn(DType::f32, false, {16, 512}, seed), specs);
        });
        QCOMPARE(counts.graphs, 0ULL);
    }

    /// Importances are the tensor's own; formats that do not use them do not mind.
    void importances() {
        for (const char* text : {"q4_K", "nf4"}) {
            const auto specs = parse_specs(text);
            const Counts counts = count([&] {
                for (unsigned seed = 0; seed < 4; ++seed) {
                    std::vector<float> importance(512);
                    std::iota(importance.begin(), importance.end(), static_cast<float>(1 + seed));
                    const Stored tensor = drawn(DType::f32, false, {16, 512}, seed);
                    TensorView view = tensor.view();
                    view.importance = importance.data();
                    check(view, specs);
                    check(tensor, specs);
                }
            });
            if (counts_of_gpu_ != nullptr)
                QCOMPARE(counts.graphs, specs[0].id == "nf4" ? 6ULL : 3ULL);
        }
    }

    /// More kinds than are kept.
    void more_kinds_than_recordings() {
        const auto specs = parse_specs("int8");
        const auto both_of_a_kind = [&](std::uint64_t rows) {
            for (unsigned seed = 0; seed < 2; ++seed)
                check(drawn(DType::f32, false, {rows, 64}, seed), specs);
        };
        constexpr std::uint64_t kept = 32;
        const Counts new_ones = count([&] {
            for (std::uint64_t rows = 1; rows <= kept + 3; ++rows)
                both_of_a_kind(rows);
        });
        const Counts oldest = count([&] { both_of_a_kind(1); }), newest = count([&] { both_of_a_kind(kept + 3); });
        if (counts_of_gpu_ == nullptr)
            return;
        QCOMPARE(new_ones.graphs, kept + 3ULL);
        QCOMPARE(oldest.graphs, 1ULL);
        QCOMPARE(newest.graphs, 2ULL);
    }

    /// What is on the device already is used where it lies; what is not goes through graphs.
    void tensors_of_a_file() {
        constexpr std::size_t tensors = 6;
        const TensorShape shape{32, 512};
        QTemporaryFile file;
        QVERIFY(file.open());
        for (unsigned seed = 0; seed < tensors; ++seed) {
            const Stored tensor = drawn(DType::f32, false, shape, seed);
            file.write(reinterpret_cast<const char*>(tensor.bytes.data()), static_cast<qint64>(tensor.bytes.size()));
        }
        file.close();
        const auto mapped = MappedFile::open(file.fileName().toStdString());
        const auto specs = parse_specs("nf4,int8,q4_0");
        for (unsigned round = 0; round < 2; ++round)
            for (std::size_t i = 0; i < tensors; ++i) {
                TensorView view{DType::f32, false, mapped->bytes().data() + i * 4 * shape.count(), shape, mapped.get()};
                JobControl job;
                if (i == 4)
                    device_->histogram(view, specs, -1, 1, 10, job);
                const Counts counts = count([&] { check(view, specs); });
                if (counts_of_gpu_ != nullptr)
                    QCOMPARE(counts.graphs, i == 0 || i == 4 ? 0ULL : 1ULL);
            }
    }

    void two_threads() {
        const auto specs = parse_specs("nf4,q4_K,int8");
        constexpr std::size_t count = 40;
        std::vector<TensorReport> reports(count);
        device_->for_each(count, [&](std::size_t i) {
            JobControl job;
            const Stored tensor = drawn(DType::f32, false, {i % 3 + 1, 512}, static_cast<unsigned>(i));
            reports[i] = device_->analyze(tensor.view(), specs, job);
        });
        for (std::size_t i = 0; i < count; ++i)
            compare(reports[i], drawn(DType::f32, false, {i % 3 + 1, 512}, static_cast<unsigned>(i)).view(), specs);
    }

    void a_capture_that_fails_data() {
        QTest::addColumn<int>("operations");
        for (const int operations : {0, 3, 6})
            QTest::addRow("%d operations", operations) << operations;
    }

    void a_capture_that_fails() {
        if (counts_of_gpu_ == nullptr)
            QSKIP("takes an emulated GPU");
        QFETCH(int, operations);
        const auto specs = parse_specs("nf4,int8,q4_K,int4:group=100");
        const Setting setting("CAPTURE", operations);
        const Counts counts = count([&] {
            for (unsigned seed = 0; seed < 4; ++seed)
                check(drawn(DType::f32, false, {16, 512}, seed), specs);
        });
        QCOMPARE(counts.graphs, 0ULL);
        QVERIFY(device_->notes().empty());
    }

    void a_cancelled_job() {
        const auto specs = parse_specs("nf4,int8");
        for (unsigned seed = 0; seed < 4; ++seed) {
            const Stored tensor = drawn(DType::f32, false, {16, 512}, seed);
            JobControl cancelled;
            cancelled.cancel();
            QVERIFY_EXCEPTION_THROWN(device_->analyze(tensor.view(), specs, cancelled), Cancelled);
            check(tensor, specs);
        }
    }

    void progress_is_the_stored_bytes() {
        for (unsigned seed = 0; seed < 4; ++seed) {
            const Stored tensor = drawn(DType::f16, false, {16, 512}, seed);
            JobControl job;
            device_->analyze(tensor.view(), parse_specs("nf4,int8"), job);
            QCOMPARE(job.done(), std::uint64_t{2} * 16 * 512);
        }
    }

private:
    using CountsOfGpu = void(unsigned long long*, unsigned long long*, unsigned long long*);

    Counts counts() const {
        Counts counts;
        if (counts_of_gpu_ != nullptr)
            counts_of_gpu_(&counts.launches, &counts.graphs, &counts.waits);
        return counts;
    }

    /// What the analyses of this test's device in `body` ask of the GPU, not those that they are compared with.
    template <class Body>
    Counts count(Body body) {
        asked_ = {};
        body();
        return asked_;
    }

    /// Analyzes the tensor on this test's device and on a fresh one.
    void check(const TensorView& view, const std::vector<FormatSpec>& specs) {
        JobControl job;
        const Counts before = counts();
        const TensorReport report = device_->analyze(view, specs, job);
        const Counts after = counts();
        asked_.launches += after.launches - before.launches;
        asked_.graphs += after.graphs - before.graphs;
        asked_.waits += after.waits - before.waits;
        compare(report, view, specs);
    }
    void check(const Stored& tensor, const std::vector<FormatSpec>& specs) { check(tensor.view(), specs); }

    void compare(const TensorReport& report, TensorView view, const std::vector<FormatSpec>& specs) {
        JobControl job;
        const QString differs = difference(make_device(id_)->analyze(view, specs, job), report);
        QVERIFY2(differs.isEmpty(),
                 qPrintable(QString("%1 x %2: %3").arg(view.shape.rows).arg(view.shape.columns).arg(differs)));
    }

    std::string id_;
    std::unique_ptr<Device> device_;
    CountsOfGpu* counts_of_gpu_ = nullptr;
    Counts asked_;
};

QTEST_GUILESS_MAIN(GraphsTest)
#include "graphs_test.moc"
