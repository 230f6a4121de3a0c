#include <QFile>
#include <QTest>

#include <cmath>
#include <cstring>

#include <nlohmann/json.hpp>

#include "core/formats/registry.h"
#include "core/methods/apply.h"
#include "tests/core/methods/made_layer.h"

using namespace qs;
using namespace qs::test;

namespace {

using Json = nlohmann::json;

/// What make_expected.py wrote.
Json expected(const char* name) {
    QFile file(QString(QUANTOSCOPE_TEST_DATA "/core/methods/expected/") + name);
    if (!file.open(QIODevice::ReadOnly))
        throw std::runtime_error(std::string("cannot read ") + name);
    return Json::parse(file.readAll().toStdString());
}

MadeLayer layer_of(const Json& item) {
    return {item["rows"], item["columns"], item.value("tokens", std::size_t{0}), item["seed"]};
}

MethodResult apply(const MadeLayer& layer, const std::string& format, const std::string& method,
                   const Calibration& calibration, std::span<const float> smoothing = {}) {
    JobControl job;
    return apply_method(parse_method(method), parse_spec(format), layer.weights.data(), layer.shape(), calibration, job,
                        smoothing);
}

std::vector<float> floats_of(const MethodResult& result, const char* name) {
    for (const StoredArray& array : result.stored)
        if (array.name == name) {
            std::vector<float> values(array.bytes.size() / sizeof(float));
            std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
            return values;
        }
    return {};
}

/// The method AWQ with its parameter.
std::string without_clipping(const std::string& method) {
    return method + (method.find(':') == std::string::npos ? ":clip=0" : ",clip=0");
}

/// The largest difference, beside the largest magnitude.
double deviation(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size())
        return INFINITY;
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(b[i])));
        difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    return difference / largest;
}

/// Σ|W − V|^p.
double lp_error(const MadeLayer& layer, const MethodResult& result, double p) {
    double sum = 0;
    for (std::size_t i = 0; i < result.weight.size(); ++i)
        sum += std::pow(std::abs(layer.weights[i] - result.weight[i]), p);
    return sum;
}

} // namespace

class TestSearches : public QObject {
    Q_OBJECT

private slots:
    void awq_equals_numpy() {
        for (const Json& item : expected("awq.json")) {
            const MadeLayer layer = layer_of(item);
            const std::string format = item["format"];
            for (const bool clip : {true, false}) {
                const std::string method = item["method"];
                const MethodResult result =
                    apply(layer, format, clip ? method : without_clipping(method), layer.calibration());
                QCOMPARE(result.ratio, item["ratio"].get<double>());
                QVERIFY(deviation(result.smoothing, item["scales"]) < 1e-6);
                const double apart = deviation(result.weight, item[clip ? "weight" : "unclipped"]);
                QVERIFY2(apart < 1e-6, qPrintable(QString("%1: %2").arg(format.c_str()).arg(apart)));
            }
        }
    }

    /// tr(D·H·Dᵀ) is twice the rows' mean squared error, over all outputs.
    void awq_measures_what_the_reference_does() {
        for (const Json& item : expected("awq.json")) {
            const MadeLayer layer = layer_of(item);
            const MethodResult result =
                apply(layer, item["format"], without_clipping(item["method"]), layer.calibration());
            const std::vector<double> losses = item["losses"];
            const double least = *std::ranges::min_element(losses);
            const double mean = result.output_error / 2 / static_cast<double>(layer.rows);
            QVERIFY(std::abs(mean - least) < 1e-5 * least);
        }
    }

    void awq_beats_rounding_to_nearest() {
        const MadeLayer layer(32, 256, 500, 41);
        const Calibration calibration = layer.calibration();
        for (const char* format :
             {"int4", "int3", "int2", "int8:scope=channel", "int4:affine", "nf4", "nf4:dq", "fp4"}) {
            const double nearest = apply(layer, format, "rtn", calibration).output_error;
            const double scaled = apply(layer, format, "awq:clip=0", calibration).output_error;
            const double clipped = apply(layer, format, "awq", calibration).output_error;
            QVERIFY2(scaled < 0.9 * nearest, format);
            QVERIFY2(clipped < 1.02 * scaled, qPrintable(QString("%1: %2, %3").arg(format).arg(clipped).arg(scaled)));
        }
    }

    /// Without the Hessian, the rows that were kept serve instead.
    void awq_from_kept_rows() {
        const MadeLayer layer(16, 128, 200, 43);
        const auto all = apply(layer, "int4", "awq", layer.calibration());
        const auto kept = apply(layer, "int4", "awq", layer.calibration({false, 200}));
        QCOMPARE(all.ratio, kept.ratio);
        QVERIFY(deviation(kept.weight, all.weight) < 1e-6);
        const auto few = apply(layer, "int4", "awq", layer.calibration({false, 64}));
        QVERIFY(few.smoothing == all.smoothing || few.ratio != all.ratio);
    }

    /// Layers with the same inputs share their scales, and each is rounded with them.
    void awq_shares_scales() {
        const MadeLayer first(16, 128, 300, 45), second(24, 128, 0, 99);
        const Calibration calibration = first.calibration();
        JobControl job;
        const LayerWeight layers[] = {{first.weights.data(), first.shape()}, {second.weights.data(), second.shape()}};
        const auto method = parse_method("awq");
        const auto shared = shared_smoothing(method, parse_spec("int4"), layers, calibration, job);
        const MethodResult result = apply(second, "int4", "awq", calibration, shared);
        QCOMPARE(result.smoothing, shared);
        MadeLayer stacked = first;
        stacked.rows = 40;
        stacked.weights.insert(stacked.weights.end(), second.weights.begin(), second.weights.end());
        const MethodResult both = apply(stacked, "int4", "awq", calibration);
        QCOMPARE(both.smoothing, shared);
        QVERIFY(std::equal(result.weight.begin(), result.weight.end(), both.weight.begin() + 16 * 128));
        QVERIFY(shared_smoothing(parse_method("gptq"), parse_spec("int4"), layers, calibration, job).empty());
    }

    void hqq_equals_numpy() {
        for (const Json& item : expected("hqq.json")) {
            const MadeLayer layer = layer_of(item);
            const MethodResult result = apply(layer, item["format"], item["method"], Calibration(layer.columns));
            QVERIFY(deviation(floats_of(result, "scales.f32"), item["scales"]) < 1e-6);
            QVERIFY(deviation(floats_of(result, "zeros.f32"), item["zeros"]) < 1e-5);
            const std::vector<int> codes = item["codes"];
            std::size_t different = 0;
            for (std::size_t i = 0; i < codes.size(); ++i)
                different += std::to_integer<int>(result.stored[0].bytes[i]) != codes[i] ? 1 : 0;
            QCOMPARE(different, std::size_t{0});
        }
    }

    void hqq_lowers_the_lp_error() {
        const MadeLayer layer(48, 256, 0, 51);
        const Calibration none(256);
        for (const char* format :
             {"int4:affine", "int4:affine,group=64", "int3:affine,group=64", "int2:affine,group=64"}) {
            const double nearest = lp_error(layer, apply(layer, format, "rtn", none), 0.7);
            const double hqq = lp_error(layer, apply(layer, format, "hqq", none), 0.7);
            QVERIFY2(hqq < nearest, qPrintable(QString("%1: %2, %3").arg(format).arg(hqq).arg(nearest)));
        }
    }

    void hqq_stores_what_decodes() {
        const MadeLayer layer(6, 150, 0, 53);
        for (const char* format : {"int4:group=64", "int3:scales=fp32", "int8"}) {
            const MethodResult result = apply(layer, format, "hqq", Calibration(150));
            const auto scales = floats_of(result, "scales.f32"), zeros = floats_of(result, "zeros.f32");
            const std::size_t groups = scales.size() / 6;
            const std::size_t group = groups == 3 ? 64 : groups == 2 ? 128 : 150;
            for (std::size_t i = 0; i < result.weight.size(); ++i) {
                const std::size_t at = i / 150 * groups + i % 150 / group;
                const auto code = static_cast<float>(std::to_integer<int>(result.stored[0].bytes[i]));
                QCOMPARE(result.weight[i], (code - zeros[at]) * scales[at]);
            }
        }
        QCOMPARE(apply(layer, "int4:group=64", "hqq", Calibration(150)).bits_per_weight, 4 + 32.0 * 3 / 150);
    }
};

QTEST_GUILESS_MAIN(TestSearches)
#include "test_searches.moc"
