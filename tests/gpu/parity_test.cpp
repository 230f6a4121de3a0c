#include <QtTest>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "core/base/error.h"
#include "core/base/half.h"
#include "core/base/resources.h"
#include "core/device/device.h"
#include "core/formats/registry.h"

using namespace qs;

namespace {

/// A matrix of weights to try everything on.
struct Input {
    std::string name;
    TensorShape shape;
    std::vector<float> weights;
};

template <class Distribution>
Input drawn(const std::string& name, std::uint64_t rows, std::uint64_t columns, Distribution distribution) {
    std::mt19937_64 random(rows * 1000003 + columns);
    Input input{name, {rows, columns}, std::vector<float>(rows * columns)};
    for (float& weight : input.weights)
        weight = static_cast<float>(0.02 * distribution(random));
    return input;
}

/// Rows of what is hard: zeros, equal magnitudes of both signs, subnormals, the largest floats, NaN and infinities.
Input hard_cases() {
    using Limits = std::numeric_limits<float>;
    const std::vector<std::vector<float>> patterns = {
        {0.0F},
        {-0.0F},
        {1.0F, -1.0F},
        {-1.0F, 1.0F, 0.5F, -0.5F},
        {Limits::denorm_min(), -Limits::denorm_min(), 0.0F},
        {1e-39F, -3e-39F, 2e-40F},
        {1e-38F, -2e-38F},
        {Limits::max(), -1.0F, 1.0F},
        {Limits::max(), -Limits::max(), 3e38F},
        {0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F, 6.0F, -7.0F},
        {0.5F, 1.5F, 2.5F, 126.5F, 127.0F, -127.0F, -0.5F},
        {65504.0F, 65519.0F, 65520.0F, -70000.0F},
        {Limits::quiet_NaN(), 0.1F, -0.2F},
        {Limits::infinity(), -Limits::infinity(), 0.3F},
        {100.0F, 1e-3F, 2e-3F, -1e-3F, 5e-4F},
        {-100.0F, 1e-3F, 100.0F},
    };
    constexpr std::uint64_t columns = 512;
    Input input{"hard cases", {patterns.size(), columns}, {}};
    for (const auto& pattern : patterns)
        for (std::uint64_t i = 0; i < columns; ++i)
            input.weights.push_back(pattern[i % pattern.size()]);
    return input;
}

std::optional<Input> golden(const std::string& name) {
    // Beside the executable where it was carried to a machine without the source tree.
    const std::filesystem::path tree = QUANTOSCOPE_GOLDEN, carried = executable_dir() / "../golden";
    const auto path = (std::filesystem::exists(tree) ? tree : carried) / "input" / (name + ".f32");
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return std::nullopt;
    constexpr std::uint64_t columns = 1024;
    const std::uint64_t count = std::filesystem::file_size(path) / sizeof(float);
    Input input{"golden " + name, {count / columns, columns}, std::vector<float>(count)};
    file.read(reinterpret_cast<char*>(input.weights.data()), static_cast<std::streamsize>(count * sizeof(float)));
    return input;
}

/// `large` inputs are for a real GPU: the tests also run on an emulated one.
std::vector<Input> all_inputs(bool large) {
    std::vector<Input> inputs{
        drawn("normal", large ? 300 : 20, 4096, std::normal_distribution<double>()),
        drawn("heavy tails", large ? 64 : 16, 1024, std::student_t_distribution<double>(3)),
        drawn("columns of 256", 130, 256, std::normal_distribution<double>()),
        drawn("columns of 96", 100, 96, std::normal_distribution<double>()),
        drawn("columns of 100", 257, 100, std::normal_distribution<double>()),
        drawn("columns of 33", 65, 33, std::normal_distribution<double>()),
        drawn("one row", 1, 50001, std::normal_distribution<double>()),
        drawn("one column", 2049, 1, std::normal_distribution<double>()),
        drawn("one weight", 1, 1, std::normal_distribution<double>()),
        hard_cases(),
    };
    if (large)
        inputs.push_back(drawn("several pieces", 1100, 4096, std::normal_distribution<double>()));
    for (const char* name : {"normal", "heavy", "outlier", "edge"})
        if (auto input = golden(name))
            inputs.push_back(std::move(*input));
    return inputs;
}

/// Values to try for a parameter: all that are offered, or the default and both ends.
std::vector<std::string> values_of(const FormatParameter& parameter) {
    if (parameter.kind == FormatParameter::Kind::flag)
        return {"0", "1"};
    if (!parameter.choices.empty())
        return parameter.choices;
    if (parameter.kind == FormatParameter::Kind::integer)
        return {parameter.default_value, "32", "64", "100", "256"};
    return {parameter.default_value, "0.02", "0.05"};
}

/// The format with every combination of its parameters that it accepts; not `all`: with one parameter changed at a
/// time.
std::vector<FormatSpec> variants_of(const Format& format, bool all) {
    const FormatSpec plain = parse_spec(format.id);
    std::vector<FormatSpec> variants{plain};
    for (const FormatParameter& parameter : format.parameters) {
        std::vector<FormatSpec> more;
        for (const FormatSpec& variant : all ? variants : std::vector{plain})
            for (const std::string& value : values_of(parameter)) {
                FormatSpec changed = variant;
                changed.parameters[parameter.name] = value;
                try {
                    const FormatSpec accepted = parse_spec(changed.text());
                    if (std::find(more.begin(), more.end(), accepted) == more.end())
                        more.push_back(accepted);
                } catch (const Error&) {
                    // The format does not allow this value with the others.
                }
            }
        if (all)
            variants = std::move(more);
        else
            for (FormatSpec& spec : more)
                if (std::find(variants.begin(), variants.end(), spec) == variants.end())
                    variants.push_back(std::move(spec));
    }
    return variants;
}

bool close(double a, double b, double scale) {
    if (std::isnan(a) || std::isnan(b))
        return std::isnan(a) && std::isnan(b);
    if (std::isinf(a) || std::isinf(b))
        return a == b;
    return std::abs(a - b) <= 1e-9 * std::max(std::abs(a), std::abs(b)) + 1e-9 * scale;
}

/// The first metric that differs by more than 1e-9 of its value, or nothing.
QString difference(const FormatResult& cpu, const FormatResult& gpu) {
    const auto& a = cpu.sums;
    const auto& b = gpu.sums;
    if (cpu.fallback != gpu.fallback)
        return "fallback";
    if (cpu.stored_bits != gpu.stored_bits)
        return QString("stored bits %1, on the GPU %2").arg(cpu.stored_bits).arg(gpu.stored_bits);
    if (a.count != b.count || a.nonfinite != b.nonfinite)
        return QString("counts %1 + %2, on the GPU %3 + %4")
            .arg(a.count)
            .arg(a.nonfinite)
            .arg(b.count)
            .arg(b.nonfinite);
    if (a.max_abs != b.max_abs || a.max_index != b.max_index)
        return QString("largest error %1 at %2, on the GPU %3 at %4")
            .arg(a.max_abs)
            .arg(a.max_index)
            .arg(b.max_abs)
            .arg(b.max_index);
    if (!close(a.sum_w2, b.sum_w2, 0) || !close(a.sum_v2, b.sum_v2, 0) || !close(a.sum_d2, b.sum_d2, 0))
        return QString("sums of squares %1 %2 %3, on the GPU %4 %5 %6 of themselves more")
            .arg(a.sum_w2)
            .arg(a.sum_v2)
            .arg(a.sum_d2)
            .arg(b.sum_w2 / a.sum_w2 - 1)
            .arg(b.sum_v2 / a.sum_v2 - 1)
            .arg(b.sum_d2 / a.sum_d2 - 1);
    // The bias is what is left when errors of both signs cancel: it is as exact as their sum of sizes.
    const double sizes = std::sqrt(a.sum_d2 * static_cast<double>(a.count));
    if (!close(a.sum_d, b.sum_d, sizes))
        return QString("bias %1, on the GPU %2 more, of sizes %3").arg(a.sum_d).arg(b.sum_d - a.sum_d).arg(sizes);
    if (cpu.usage != gpu.usage)
        return "code usage";
    return {};
}

QString difference(const Statistics& a, const Statistics& b) {
    const auto counts = [](const Statistics& s) {
        return std::vector{s.count, s.zeros, s.nan, s.inf, s.beyond_3_sigma, s.beyond_6_sigma};
    };
    if (counts(a) != counts(b))
        return "counts of the statistics";
    if (!close(a.min, b.min, 0) || !close(a.max, b.max, 0))
        return QString("range %1 … %2, on the GPU %3 … %4").arg(a.min).arg(a.max).arg(b.min).arg(b.max);
    if (!close(a.mean, b.mean, a.std) || !close(a.std, b.std, 0) || !close(a.skewness, b.skewness, 1) ||
        !close(a.excess_kurtosis, b.excess_kurtosis, 1))
        return QString("moments %1 %2 %3 %4, on the GPU %5 %6 %7 %8")
            .arg(a.mean)
            .arg(a.std)
            .arg(a.skewness)
            .arg(a.excess_kurtosis)
            .arg(b.mean)
            .arg(b.std)
            .arg(b.skewness)
            .arg(b.excess_kurtosis);
    return {};
}

TensorView view_of(const Input& input) {
    return {DType::f32, false, reinterpret_cast<const std::byte*>(input.weights.data()), input.shape, nullptr};
}

/// Equal codes, and equal reconstructions as floats compare: −0 equals +0, and any NaN any other.
bool equal(const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(),
                      [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

} // namespace

/// The GPU gives the codes of the CPU and its metrics to 1e-9, for every format.
class ParityTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        find_gpu();
        if (!gpu_)
            QSKIP(reason_.c_str());
        cpu_ = make_cpu_device();
        inputs_ = all_inputs(large_);
    }

    void codes_and_metrics_data() {
        find_gpu();
        QTest::addColumn<QString>("spec");
        for (const Format& format : formats())
            for (const FormatSpec& spec : variants_of(format, large_))
                QTest::newRow(spec.text().c_str()) << QString::fromStdString(spec.text());
    }

    void codes_and_metrics() {
        QFETCH(QString, spec);
        const FormatSpec wanted = parse_spec(spec.toStdString());
        const bool required = format(wanted.id).importance == Importance::required;
        for (const Input& input : inputs_) {
            for (const bool weighted : {false, true}) {
                if (weighted ? format(wanted.id).importance == Importance::unused : required)
                    continue;
                compare(input, wanted, weighted);
                if (QTest::currentTestFailed())
                    return;
            }
        }
    }

    /// Every format at once, in the order that was asked for.
    void all_formats_together() {
        std::vector<FormatSpec> specs;
        for (const Format& format : formats())
            specs.push_back(parse_spec(format.id));
        const Input& input = inputs_[0];
        const std::vector<float> importance = importance_for(input);
        TensorView view = view_of(input);
        view.importance = importance.data();
        JobControl job, cpu_job;
        const TensorReport cpu = cpu_->analyze(view, specs, cpu_job), gpu = gpu_->analyze(view, specs, job);
        QCOMPARE(job.done(), cpu_job.done());
        const auto cpu_histograms = cpu_->histogram(view, specs, -0.05, 0.06, 512, cpu_job);
        const auto gpu_histograms = gpu_->histogram(view, specs, -0.05, 0.06, 512, job);
        for (std::size_t i = 0; i < specs.size(); ++i) {
            QCOMPARE(gpu.results[i].spec, specs[i]);
            const QString result = difference(cpu.results[i], gpu.results[i]);
            QVERIFY2(result.isEmpty(), qPrintable(QString::fromStdString(specs[i].text()) + ": " + result));
            QVERIFY2(same(cpu_histograms.reconstructions[i], gpu_histograms.reconstructions[i]),
                     specs[i].text().c_str());
        }
    }

    void a_format_that_requires_importance_is_refused_without() {
        for (const Format& format : formats()) {
            if (format.importance != Importance::required)
                continue;
            const FormatSpec spec = parse_spec(format.id);
            JobControl job;
            QVERIFY_EXCEPTION_THROWN(gpu_->analyze(view_of(inputs_[0]), std::span(&spec, 1), job), Error);
        }
    }

    /// Large enough for sums in float32 by eight, in every native type.
    void large_tensors_data() {
        QTest::addColumn<int>("dtype");
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
            QTest::newRow(std::string(to_string(dtype)).c_str()) << static_cast<int>(dtype);
    }

    void large_tensors() {
        QFETCH(int, dtype);
        const auto type = static_cast<DType>(dtype);
        const TensorShape shape{1040, 4096};
        const auto bytes = normal_bytes(type, shape.count());
        const TensorView view{type, false, bytes.data(), shape};
        const auto specs =
            parse_specs("nf4,fp4,int8,int4,q8_0,q4_0,mxfp4,nvfp4,fp8_e4m3,fp16,bf16,mxint8,q5_1,llm_int8");
        JobControl job;
        const TensorReport cpu = cpu_->analyze(view, specs, job), gpu = gpu_->analyze(view, specs, job);
        const QString statistics = difference(cpu.statistics, gpu.statistics);
        QVERIFY2(statistics.isEmpty(), qPrintable(statistics));
        for (std::size_t i = 0; i < specs.size(); ++i) {
            const QString result = difference(cpu.results[i], gpu.results[i]);
            QVERIFY2(result.isEmpty(), qPrintable(QString::fromStdString(specs[i].text()) + ": " + result));
        }
    }

    /// 100 million weights of every format, the codes of which must be the CPU's.
    void millions_of_codes_data() {
        find_gpu();
        QTest::addColumn<QString>("spec");
        for (const Format& format : formats())
            QTest::newRow(format.id.c_str()) << QString::fromStdString(format.id);
    }

    void millions_of_codes() {
        if (!large_)
            QSKIP("takes a real GPU");
        QFETCH(QString, spec);
        const FormatSpec wanted = parse_spec(spec.toStdString());
        const bool required = format(wanted.id).importance == Importance::required;
        static const Input input = drawn("100 million", 24576, 4096, std::normal_distribution<double>());
        static const std::vector<float> importance = importance_for(input);
        compare_codes(input, wanted, required ? importance.data() : nullptr);
    }

    void stored_types_data() {
        QTest::addColumn<int>("dtype");
        QTest::addColumn<bool>("swapped");
        for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2,
                                  DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0, DType::q4_K,
                                  DType::q6_K, DType::iq4_xs, DType::iq2_s, DType::mxfp4}) {
            const std::string name(to_string(dtype));
            QTest::newRow(name.c_str()) << static_cast<int>(dtype) << false;
            if (dtype == DType::f64 || dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16)
                QTest::newRow((name + " big endian").c_str()) << static_cast<int>(dtype) << true;
        }
    }

    /// Random bytes are as good a tensor as any, with NaN and infinities among them; scales of block types are kept
    /// moderate. Two tensors: the CPU counts the 16-bit patterns of the larger one.
    void stored_types() {
        QFETCH(int, dtype);
        QFETCH(bool, swapped);
        const auto type = static_cast<DType>(dtype);
        for (const std::uint64_t rows : {3, 260}) {
            const TensorShape shape{rows, 4096};
            const auto bytes = random_bytes(type, swapped, shape.count());
            const TensorView view{type, swapped, bytes.data(), shape, nullptr};
            for (const char* text : {"nf4", "int8", "q4_0"}) {
                compare_metrics(view, parse_spec(text), std::to_string(rows) + " rows");
                if (QTest::currentTestFailed())
                    return;
            }
        }
    }

    void histograms() {
        const auto specs = parse_specs("nf4,int8,int4:group=100,fp8_e4m3,q4_0,bf16,llm_int8");
        for (const Input& input : inputs_)
            for (const std::size_t bins : {7, 512, 10000}) {
                JobControl job;
                const auto cpu = cpu_->histogram(view_of(input), specs, -0.05, 0.06, bins, job);
                const auto gpu = gpu_->histogram(view_of(input), specs, -0.05, 0.06, bins, job);
                QVERIFY2(same(cpu.weights, gpu.weights), input.name.c_str());
                for (std::size_t i = 0; i < specs.size(); ++i)
                    QVERIFY2(same(cpu.reconstructions[i], gpu.reconstructions[i]),
                             (input.name + ", " + specs[i].text()).c_str());
            }
    }

    void runs_repeat_to_the_last_bit() {
        const auto specs = parse_specs("nf4,nf4:dq,int8,int4:group=100,fp8_e4m3,q4_0,q4_K,bf16,llm_int8,nvfp4");
        for (const Input& input : inputs_) {
            JobControl job;
            const TensorReport first = gpu_->analyze(view_of(input), specs, job);
            for (std::size_t i = 0; i < specs.size(); ++i) {
                // Alone or among others, a format gives the same.
                const TensorReport again = gpu_->analyze(view_of(input), std::span(&specs[i], 1), job);
                QVERIFY2(std::memcmp(&first.results[i].sums, &again.results[0].sums, sizeof(ErrorSums)) == 0,
                         specs[i].text().c_str());
                QVERIFY(first.results[i].usage == again.results[0].usage);
                QCOMPARE(std::bit_cast<std::uint64_t>(first.statistics.skewness),
                         std::bit_cast<std::uint64_t>(again.statistics.skewness));
            }
        }
    }

    void a_cancelled_job_stops_within_100_ms() {
        const std::vector<float> weights(std::size_t{large_ ? 64U : 8U} << 20, 0.5F);
        const TensorView view{DType::f32,
                              false,
                              reinterpret_cast<const std::byte*>(weights.data()),
                              {weights.size() / 4096, 4096},
                              nullptr};
        const auto specs = parse_specs("nf4,int8,q4_0,fp8_e4m3");
        JobControl job;
        QElapsedTimer timer;
        std::thread canceller([&] {
            while (job.done() == 0)
                std::this_thread::yield();
            timer.start();
            job.cancel();
        });
        QVERIFY_EXCEPTION_THROWN(gpu_->analyze(view, specs, job), Cancelled);
        const auto milliseconds = timer.elapsed();
        canceller.join();
        QVERIFY2(milliseconds < (large_ ? 100 : 20000), qPrintable(QString::number(milliseconds)));
        // And the device is fit for the next job.
        compare_metrics(view_of(inputs_[0]), parse_spec("nf4"), "after a cancelled job");
    }

    void progress_adds_up_to_the_stored_bytes() {
        const Input& input = inputs_.back();
        for (const char* text : {"nf4", "fp8_e4m3"}) {
            JobControl job;
            gpu_->analyze(view_of(input), std::vector{parse_spec(text)}, job);
            QCOMPARE(job.done(), std::uint64_t{4} * input.shape.count());
        }
    }

private:
    static bool same(const Histogram& a, const Histogram& b) {
        return a.counts == b.counts && a.below == b.below && a.above == b.above && a.nonfinite == b.nonfinite;
    }

    static std::vector<std::byte> random_bytes(DType dtype, bool swapped, std::uint64_t count) {
        const BlockLayout layout = block_layout(dtype);
        std::vector<std::byte> bytes(count / layout.elements * layout.bytes);
        std::mt19937_64 random(static_cast<std::uint64_t>(dtype) + 1);
        for (std::byte& byte : bytes)
            byte = static_cast<std::byte>(random());
        if (layout.elements > 1)
            for (std::size_t at = 0; at < bytes.size(); at += layout.bytes)
                for (const std::size_t field : {at, at + 2}) {
                    const std::uint16_t scale =
                        float_to_fp16(static_cast<float>(1e-3 * static_cast<double>(random() % 100)));
                    std::memcpy(&bytes[field], &scale, sizeof(scale));
                }
        // A plain type's exponent is kept moderate in most weights, so that sums do not overflow.
        const bool wide = dtype == DType::f64 || dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
        if (wide)
            for (std::size_t at = 0, i = 0; at < bytes.size(); at += layout.bytes, ++i) {
                const std::size_t top = swapped ? at : at + layout.bytes - 1;
                if (i % 1000 != 0)
                    bytes[top] = (bytes[top] & std::byte{0x80}) | std::byte{0x3c};
            }
        return bytes;
    }

    /// What a row's columns weigh: of several magnitudes, and some nothing.
    static std::vector<float> importance_for(const Input& input) {
        std::vector<float> importance(input.shape.columns);
        std::mt19937_64 random(input.shape.columns);
        for (float& value : importance)
            value = random() % 20 == 0 ? 0.0F : std::exp(static_cast<float>(random() % 1000) / 200 - 2);
        return importance;
    }

    void compare(const Input& input, const FormatSpec& spec, bool weighted) {
        const std::vector<float> importance = importance_for(input);
        TensorView view = view_of(input);
        view.importance = weighted ? importance.data() : nullptr;
        const FormatSpec effective = effective_spec(spec, input.shape);
        if (!weighted && format(effective.id).importance == Importance::required)
            return;
        compare_codes(input, effective, view.importance);
        if (!QTest::currentTestFailed())
            compare_metrics(view, spec, input.name + (weighted ? ", weighted" : ""));
    }

    static std::vector<std::byte> normal_bytes(DType dtype, std::uint64_t count) {
        std::mt19937_64 random(5);
        std::normal_distribution<float> distribution(0, 0.02F);
        std::vector<std::byte> bytes(count * block_layout(dtype).bytes);
        for (std::uint64_t i = 0; i < count; ++i) {
            const float w = i % 100003 == 0 ? 40 * distribution(random) : distribution(random);
            const std::uint16_t half = dtype == DType::bf16 ? float_to_bf16(w) : float_to_fp16(w);
            if (dtype == DType::f32)
                std::memcpy(&bytes[4 * i], &w, 4);
            else
                std::memcpy(&bytes[2 * i], &half, 2);
        }
        return bytes;
    }

    /// The first usable GPU; an emulated one is slow, and gets less to do.
    void find_gpu() {
        for (const DeviceInfo& info : list_devices()) {
            if (info.kind != "cuda" || info.members > 1 || gpu_)
                continue;
            reason_ = info.reason;
            if (!info.usable)
                continue;
            gpu_ = make_device(info.id);
            large_ = info.name != "emulated GPU";
        }
    }

    void compare_codes(const Input& input, const FormatSpec& spec, const float* importance) {
        const std::size_t count = input.weights.size();
        std::vector<std::uint16_t> cpu_codes(count), gpu_codes(count);
        std::vector<float> cpu_decoded(count), gpu_decoded(count);
        JobControl job;
        const float* weights = input.weights.data();
        const double cpu_bits =
            cpu_->quantize(weights, input.shape, spec, importance, cpu_codes.data(), cpu_decoded.data(), job);
        const double gpu_bits =
            gpu_->quantize(weights, input.shape, spec, importance, gpu_codes.data(), gpu_decoded.data(), job);
        const auto at = std::mismatch(cpu_codes.begin(), cpu_codes.end(), gpu_codes.begin());
        const auto index = static_cast<std::size_t>(at.first - cpu_codes.begin());
        if (index < count)
            QFAIL(qPrintable(QString("%1: weight %2 of %3 has code %4, on the GPU %5")
                                 .arg(input.name.c_str())
                                 .arg(index)
                                 .arg(input.weights[index])
                                 .arg(cpu_codes[index])
                                 .arg(gpu_codes[index])));
        QVERIFY2(equal(cpu_decoded, gpu_decoded), input.name.c_str());
        QCOMPARE(gpu_bits, cpu_bits);
    }

    void compare_metrics(const TensorView& view, const FormatSpec& spec, const std::string& what) {
        JobControl job;
        const TensorReport cpu = cpu_->analyze(view, std::span(&spec, 1), job);
        const TensorReport gpu = gpu_->analyze(view, std::span(&spec, 1), job);
        const QString statistics = difference(cpu.statistics, gpu.statistics);
        QVERIFY2(statistics.isEmpty(), qPrintable(QString::fromStdString(what) + ": " + statistics));
        const QString result = difference(cpu.results[0], gpu.results[0]);
        QVERIFY2(result.isEmpty(), qPrintable(QString::fromStdString(what) + ": " + result));
    }

    std::unique_ptr<Device> cpu_, gpu_;
    std::string reason_ = "there is no CUDA device";
    bool large_ = true;
    std::vector<Input> inputs_;
};

QTEST_GUILESS_MAIN(ParityTest)
#include "parity_test.moc"
