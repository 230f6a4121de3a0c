#include <QTest>

#include <cmath>

#include "core/base/half.h"
#include "core/formats/registry.h"
#include "core/methods/apply.h"
#include "tests/core/methods/made_layer.h"

using namespace qs;
using namespace qs::test;

namespace {

MethodResult apply(const MadeLayer& layer, const std::string& format, const std::string& method) {
    JobControl job;
    return apply_method(parse_method(method), parse_spec(format), layer.weights.data(), layer.shape(),
                        layer.calibration(), job);
}

/// Outputs of a plain layer in float64.
std::vector<double> plain(const MadeLayer& layer, const std::vector<float>& weights) {
    std::vector<double> outputs(layer.tokens * layer.rows);
    for (std::size_t t = 0; t < layer.tokens; ++t)
        for (std::size_t row = 0; row < layer.rows; ++row)
            for (std::size_t i = 0; i < layer.columns; ++i)
                outputs[t * layer.rows + row] +=
                    static_cast<double>(layer.inputs[t * layer.columns + i]) * weights[row * layer.columns + i];
    return outputs;
}

std::vector<float> outputs_of(const MadeLayer& layer, const MethodResult& result) {
    std::vector<float> outputs(layer.tokens * layer.rows);
    layer_outputs(result, layer.shape(), layer.inputs.data(), layer.tokens, outputs.data());
    return outputs;
}

/// ‖a − b‖ / ‖b‖.
double apart(const std::vector<float>& a, const std::vector<double>& b) {
    double difference = 0, power = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        power += b[i] * b[i];
    }
    return std::sqrt(difference / power);
}

} // namespace

class TestActivations : public QObject {
    Q_OBJECT

private slots:
    void names() {
        for (const std::string& name : activation_names())
            QCOMPARE(to_string(parse_activations(name)), name);
        QVERIFY_EXCEPTION_THROWN(parse_activations("int7"), Error);
    }

    void rounding() {
        std::vector<float> values{1.0F, -0.3F, 0.5F, 127.0F, 64.4F, -3.6F};
        const auto rounded = [&](Activations how, float absmax = 0) {
            std::vector<float> copy = values;
            round_activations(how, copy.data(), 2, 3, absmax);
            return copy;
        };
        QCOMPARE(rounded(Activations::none), values);
        const float step = 1.0F / 127;
        QCOMPARE(rounded(Activations::int8), (std::vector{127 * step, -38 * step, 64 * step, 127.0F, 64.0F, -4.0F}));
        QCOMPARE(rounded(Activations::int8_tensor), (std::vector{1.0F, 0.0F, 0.0F, 127.0F, 64.0F, -4.0F}));
        QCOMPARE(rounded(Activations::int8_static, 63.5F), (std::vector{1.0F, -0.5F, 0.5F, 63.5F, 63.5F, -3.5F}));
        for (std::size_t i = 0; i < 6; ++i) {
            QVERIFY(std::abs(rounded(Activations::fp8)[i] - values[i]) <= std::abs(values[i]) / 16);
            // The power of two of OCP's rule clips up to an eighth of the largest.
            QVERIFY(std::abs(rounded(Activations::mxfp8)[i] - values[i]) <= std::abs(values[i]) / 8);
        }
        QVERIFY(rounded(Activations::fp8) != values);
        QVERIFY(rounded(Activations::mxfp8) != values);
    }

    /// (x / s)·(W·s)ᵀ is x·Wᵀ, and both forms of the result say the same.
    void smoothing_loses_nothing() {
        const MadeLayer layer(24, 128, 60, 61);
        const MethodResult result = apply(layer, "int8", "smoothquant");
        MethodResult exact = result;
        exact.weight = layer.weights;
        exact.activations = Activations::none;
        QVERIFY(apart(outputs_of(layer, exact), plain(layer, layer.weights)) < 1e-6);
        std::vector<float> smoothed_weights = layer.weights;
        MadeLayer smoothed = layer;
        for (std::size_t i = 0; i < smoothed_weights.size(); ++i)
            smoothed_weights[i] *= result.smoothing[i % 128];
        for (std::size_t i = 0; i < smoothed.inputs.size(); ++i)
            smoothed.inputs[i] /= result.smoothing[i % 128];
        const auto outputs = plain(smoothed, smoothed_weights);
        QVERIFY(apart({outputs.begin(), outputs.end()}, plain(layer, layer.weights)) < 1e-6);
    }

    void smoothing_is_the_papers() {
        const MadeLayer layer(24, 64, 60, 62);
        for (const double alpha : {0.0, 0.5, 0.75, 1.0}) {
            const auto result = apply(layer, "int8", "smoothquant:alpha=" + std::to_string(alpha));
            for (std::size_t i = 0; i < 64; ++i) {
                float x = 0, w = 0;
                for (std::size_t t = 0; t < 60; ++t)
                    x = std::max(x, std::abs(layer.inputs[t * 64 + i]));
                for (std::size_t row = 0; row < 24; ++row)
                    w = std::max(w, std::abs(layer.weights[row * 64 + i]));
                const double scale = std::pow(x, alpha) / std::pow(w, 1 - alpha);
                QVERIFY(std::abs(result.smoothing[i] - scale) < 1e-6 * scale);
            }
        }
    }

    /// Outliers in some columns spoil 8-bit inputs; shared with the weights they do less harm.
    void smoothing_helps() {
        MadeLayer layer(64, 256, 200, 63);
        for (std::size_t i = 0; i < layer.inputs.size(); ++i)
            if (i % 256 == 10 || i % 256 == 200)
                layer.inputs[i] *= 60;
        const auto exact = plain(layer, layer.weights);
        const auto smooth = apply(layer, "int8", "smoothquant"), mixed = apply(layer, "llm_int8", "llm_int8");
        MethodResult rough = apply(layer, "int8", "rtn");
        rough.activations = Activations::int8;
        const double without = apart(outputs_of(layer, rough), exact);
        QVERIFY(apart(outputs_of(layer, smooth), exact) < 0.5 * without);
        QVERIFY(apart(outputs_of(layer, mixed), exact) < 0.5 * without);
        QVERIFY(smooth.simulated_error > smooth.output_error);
        // All rows were kept, so what was simulated is what comes out.
        const double relative = std::sqrt(smooth.simulated_error / smooth.simulated_power);
        QVERIFY(std::abs(relative - apart(outputs_of(layer, smooth), exact)) < 1e-4 * relative);
        QVERIFY(mixed.outlier_columns >= 2 && mixed.outlier_columns < 256);
        QCOMPARE(mixed.bits_per_weight, 8 + 32.0 / 256 + 16.0 * static_cast<double>(mixed.outlier_columns) / 256);
    }

    void one_scale_for_all_times() {
        const MadeLayer layer(16, 128, 100, 64);
        const auto exact = plain(layer, layer.weights);
        double least = 0;
        for (const char* how : {"none", "int8", "int8_tensor", "int8_static"}) {
            const auto result = apply(layer, "int8", std::string("smoothquant:activations=") + how);
            const double error = apart(outputs_of(layer, result), exact);
            QVERIFY2(error > least && error < 0.02, how);
            least = error;
            if (result.activations == Activations::int8_tensor)
                least -= 1e-12; // the calibration's range is that of these inputs
        }
    }

    /// With outliers in all columns nothing is left for 8 bits.
    void all_columns_outliers() {
        MadeLayer layer(16, 64, 40, 65);
        for (float& x : layer.inputs)
            x = fp16_to_float(float_to_fp16(x + (x < 0 ? -6.0F : 6.0F)));
        for (float& w : layer.weights)
            w = fp16_to_float(float_to_fp16(w));
        const MethodResult result = apply(layer, "llm_int8", "llm_int8:threshold=6");
        QCOMPARE(result.outlier_columns, std::size_t{64});
        QVERIFY(apart(outputs_of(layer, result), plain(layer, layer.weights)) < 1e-6);
        MethodResult higher = result;
        higher.outlier_threshold = 1000;
        QVERIFY(apart(outputs_of(layer, higher), plain(layer, layer.weights)) > 1e-3);
    }

    /// Without outliers it is 8 bits times 8 bits.
    void no_outliers() {
        const MadeLayer layer(16, 64, 40, 66);
        const MethodResult mixed = apply(layer, "llm_int8", "llm_int8:threshold=1000");
        MethodResult plain_int8 = apply(layer, "llm_int8", "rtn");
        plain_int8.activations = Activations::int8;
        QCOMPARE(outputs_of(layer, mixed), outputs_of(layer, plain_int8));
        QCOMPARE(mixed.outlier_columns, std::size_t{0});
    }
};

QTEST_GUILESS_MAIN(TestActivations)
#include "test_activations.moc"
