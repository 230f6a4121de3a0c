#include <QDir>
#include <QTest>

#include <cmath>
#include <cstring>
#include <numeric>

#include "core/formats/registry.h"
#include "core/methods/apply.h"

using namespace qs;

/// What the reference implementations of GPTQ, AWQ and HQQ made of one layer (golden/more of the shared data). They ran
/// in float32 on a BLAS, so that a weight near a boundary may have got the other code: one of a
/// thousand may differ.
class TestGoldenMethods : public QObject {
    Q_OBJECT

    static constexpr std::size_t rows = 64, columns = 256, tokens = 512;
    QDir folder_{QStringLiteral(QUANTOSCOPE_SHARED_DATA "/golden/more")};
    std::vector<float> weights_;
    std::optional<Calibration> calibration_;

    template <class T>
    std::vector<T> read(const QString& name) const {
        QFile file(folder_.filePath(name));
        if (!file.open(QIODevice::ReadOnly))
            throw std::runtime_error("cannot read " + name.toStdString());
        const QByteArray bytes = file.readAll();
        std::vector<T> values(static_cast<std::size_t>(bytes.size()) / sizeof(T));
        std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
        return values;
    }

    MethodResult apply(const char* method, const char* format, std::span<const float> smoothing = {}) const {
        JobControl job;
        return apply_method(parse_method(method), parse_spec(format), weights_.data(), {rows, columns}, *calibration_,
                            job, smoothing);
    }

    static std::vector<float> stored(const MethodResult& result, const std::string& name) {
        for (const StoredArray& array : result.stored)
            if (array.name == name) {
                std::vector<float> values(array.bytes.size() / sizeof(float));
                std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
                return values;
            }
        throw std::runtime_error("nothing is stored as " + name);
    }

    /// Of weights that differ by more than rounding.
    static double share_of_others(const std::vector<float>& a, const std::vector<float>& b) {
        if (a.size() != b.size())
            return 1;
        std::size_t others = 0;
        for (std::size_t i = 0; i < a.size(); ++i)
            others += std::abs(a[i] - b[i]) > 1e-4F * std::max(std::abs(b[i]), 1e-3F);
        return static_cast<double>(others) / static_cast<double>(a.size());
    }

    /// Mean squared error of the layer's outputs.
    double layer_mse(const std::vector<float>& weight) const {
        const std::vector<double> hessian = calibration_->hessian();
        double sum = 0;
        for (std::size_t row = 0; row < rows; ++row) {
            std::vector<double> difference(columns);
            for (std::size_t i = 0; i < columns; ++i)
                difference[i] = static_cast<double>(weight[row * columns + i]) - weights_[row * columns + i];
            for (std::size_t i = 0; i < columns; ++i)
                sum +=
                    difference[i] * std::inner_product(difference.begin(), difference.end(),
                                                       hessian.begin() + static_cast<std::ptrdiff_t>(i * columns), 0.0);
        }
        return sum / 2 / rows;
    }

private slots:
    void initTestCase() {
        if (!folder_.exists())
            QSKIP("no reference outputs in " QUANTOSCOPE_SHARED_DATA "/golden/more");
        weights_ = read<float>("in_h_ptq_weight_64x256.f32");
        calibration_.emplace(columns);
        calibration_->add(read<float>("in_h_ptq_calib_512x256.f32").data(), tokens);
    }

    void hessian() {
        const std::vector<float> expected = read<float>("gptq_H_256x256.f32");
        const std::vector<double> own = calibration_->hessian();
        // The reference divides by its four sequences of 128 tokens.
        for (std::size_t i = 0; i < own.size(); ++i)
            QVERIFY(std::abs(128 * own[i] - expected[i]) <= 1e-4 * std::abs(expected[i]) + 1e-2);
    }

    void gptq_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<QString>("method");
        QTest::addColumn<QString>("format");
        QTest::addColumn<double>("mse");
        const auto row = [](const char* file, const char* method, const char* format, double mse) {
            QTest::newRow(file) << QString(file) << QString(method) << QString(format) << mse;
        };
        row("gptq_b3_g64_asym_act0_static0", "gptq", "int3:group=64,affine,scales=fp32", 0.17332913);
        row("gptq_b4_g-1_asym_act1_static0", "gptq:act_order", "int4:scope=channel,affine,scales=fp32", 0.23040469);
        row("gptq_b4_g128_asym_act0_static0", "gptq", "int4:group=128,affine,scales=fp32", 0.1162383);
        row("gptq_b4_g128_asym_act1_static1", "gptq:act_order,static_groups", "int4:group=128,affine,scales=fp32",
            0.080480725);
        row("gptq_b4_g128_sym_act0_static0", "gptq", "int4:group=128,scales=fp32", 0.18247594);
    }
    void gptq() {
        QFETCH(QString, file);
        QFETCH(QString, method);
        QFETCH(QString, format);
        QFETCH(double, mse);
        const MethodResult result = apply(qPrintable(method), qPrintable(format));
        const double share = share_of_others(result.weight, read<float>(file + ".deq.f32"));
        qInfo("%.4f of the codes differ; layer mse %.8f, reference %.8f", share, layer_mse(result.weight), mse);
        QVERIFY(share < 0.001);
        QVERIFY(std::abs(layer_mse(result.weight) - mse) < 0.001 * mse);
    }

    void awq_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<QString>("method");
        QTest::addColumn<double>("mse");
        QTest::newRow("powers of the inputs") << "awq_b4_g128_xonly"
                                              << "awq:clip=0" << 0.1169204;
        // On a CPU the reference overwrites the weights with those that it scaled first, and so keeps the exponent 0.
        QTest::newRow("duo scaling") << "awq_b4_g128_duo"
                                     << "awq:clip=0,duo,steps=1" << 0.045893505;
    }
    void awq() {
        QFETCH(QString, file);
        QFETCH(QString, method);
        QFETCH(double, mse);
        const MethodResult result = apply(qPrintable(method), "int4:affine,scales=fp32");
        const std::vector<float> scales = read<float>(file + ".scales.f32");
        for (std::size_t i = 0; i < columns; ++i)
            QVERIFY(std::abs(result.smoothing[i] - scales[i]) < 1e-4F * scales[i]);
        QVERIFY(share_of_others(stored(result, "scales.f32"), read<float>(file + ".group_scales.f32")) == 0);
        const double share = share_of_others(result.weight, read<float>(file + ".deq.f32"));
        qInfo("%.4f of the codes differ; layer mse %.8f, reference %.8f", share, layer_mse(result.weight), mse);
        QVERIFY(share < 0.001);
        QVERIFY(std::abs(layer_mse(result.weight) - mse) < 0.001 * mse);
    }

    void awq_clips_as_the_reference() {
        const std::vector<float> limits = read<float>("awq_b4_g128_clip_max.f32");
        const MethodResult result = apply("awq:steps=1", "int4:affine,scales=fp32");
        std::vector<float> clipped = weights_;
        for (std::size_t i = 0; i < clipped.size(); ++i)
            clipped[i] = std::clamp(clipped[i], -limits[i / 128], limits[i / 128]);
        std::swap(clipped, weights_);
        const MethodResult expected = apply("awq:steps=1,clip=0", "int4:affine,scales=fp32");
        std::swap(clipped, weights_);
        QCOMPARE(share_of_others(result.weight, expected.weight), 0.0);
    }

    void hqq_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<QString>("format");
        QTest::newRow("int2") << "hqq_b2_g16_axis1_opt"
                              << "int2:group=16,scales=fp32";
        QTest::newRow("int3") << "hqq_b3_g64_axis1_opt"
                              << "int3:group=64,scales=fp32";
        QTest::newRow("int4") << "hqq_b4_g64_axis1_opt_rz"
                              << "int4:group=64,scales=fp32";
    }
    void hqq() {
        QFETCH(QString, file);
        QFETCH(QString, format);
        const MethodResult result = apply("hqq", qPrintable(format));
        const std::vector<float> scales = read<float>(file + ".scale.f32"), zeros = read<float>(file + ".zero.f32");
        QCOMPARE(share_of_others(stored(result, "scales.f32"), scales), 0.0);
        const std::vector<float> own = stored(result, "zeros.f32");
        float furthest = 0;
        for (std::size_t i = 0; i < zeros.size(); ++i)
            furthest = std::max(furthest, std::abs(own[i] - zeros[i]));
        qInfo("zero points differ by at most %g", furthest);
        const std::vector<std::uint8_t> codes = read<std::uint8_t>(file + ".codes.bin");
        std::vector<float> expected(codes.size());
        const std::size_t group = codes.size() / scales.size();
        for (std::size_t i = 0; i < codes.size(); ++i)
            expected[i] = (codes[i] - zeros[i / group]) * scales[i / group];
        std::size_t others = 0;
        for (std::size_t i = 0; i < codes.size(); ++i)
            others += std::abs(result.weight[i] - expected[i]) > scales[i / group] / 100;
        qInfo("%zu of %zu weights differ", others, codes.size());
        QVERIFY(furthest < 1e-3F);
        QVERIFY(others < codes.size() / 1000);
    }
};

QTEST_APPLESS_MAIN(TestGoldenMethods)
#include "test_golden_methods.moc"
