// Before Qt, whose macro `emit` is a name in it.
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <QTest>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/formats/bitsandbytes.h"
#include "core/formats/registry.h"
#include "core/methods/apply.h"
#include "tests/core/methods/made_layer.h"

using namespace qs;
using namespace qs::test;

namespace {

using Matrix = std::vector<std::vector<double>>;

/// By elimination without pivots, which positive definite matrices do not need.
Matrix inverse_of(Matrix a) {
    const std::size_t n = a.size();
    Matrix inverse(n, std::vector<double>(n));
    for (std::size_t i = 0; i < n; ++i)
        inverse[i][i] = 1;
    for (std::size_t pivot = 0; pivot < n; ++pivot) {
        const double by = a[pivot][pivot];
        for (std::size_t j = 0; j < n; ++j) {
            a[pivot][j] /= by;
            inverse[pivot][j] /= by;
        }
        for (std::size_t row = 0; row < n; ++row) {
            const double factor = a[row][pivot];
            for (std::size_t j = 0; row != pivot && j < n; ++j) {
                a[row][j] -= factor * a[pivot][j];
                inverse[row][j] -= factor * inverse[pivot][j];
            }
        }
    }
    return inverse;
}

/// What the naive form rounds to, written out apart from the codecs.
struct Quantizer {
    int bits = 4; ///< 0: NF4
    bool affine = false;
    bool reference = true; ///< the reference's symmetric scale
    float scale = 1, zero = 0;

    void fit(const std::vector<double>& weights) {
        float low = 0, high = 0;
        for (const double weight : weights) {
            low = std::min(low, static_cast<float>(weight));
            high = std::max(high, static_cast<float>(weight));
        }
        const float absmax = std::max(-low, high), top = static_cast<float>((1 << bits) - 1);
        if (bits == 0) {
            scale = absmax;
        } else if (affine) {
            scale = (high - low) / top;
            zero = std::rint(-low / scale);
        } else {
            scale = reference ? 2 * absmax / top : absmax / static_cast<float>((1 << (bits - 1)) - 1);
            zero = static_cast<float>(1 << (bits - 1));
        }
    }
    int code(double weight) const {
        const auto w = static_cast<float>(weight);
        if (bits == 0) {
            int nearest = 0;
            for (int i = 1; i < 16; ++i)
                if (std::abs(w / scale - Nf4Codec::level(i)) < std::abs(w / scale - Nf4Codec::level(nearest)))
                    nearest = i;
            return nearest;
        }
        return static_cast<int>(std::clamp(std::rint(w / scale) + zero, 0.0F, static_cast<float>((1 << bits) - 1)));
    }
    double value(int code) const {
        return bits == 0 ? Nf4Codec::level(static_cast<std::uint32_t>(code)) * scale
                         : scale * (static_cast<float>(code) - zero);
    }
};

struct Case {
    QString format, method;
    Quantizer quantizer;
    std::size_t group; ///< weights that share a scale
    bool act_order = false, fixed = false;
    std::size_t at_once = 128; ///< after which scales see updates
};

/// Codes, column by column with the explicit inverse of the columns that are left.
std::vector<int> naive_codes(const MadeLayer& layer, const Case& how, double damp) {
    const std::size_t n = layer.columns;
    Matrix h(n, std::vector<double>(n));
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t t = 0; t < layer.tokens; ++t)
                h[i][j] += 2.0 / static_cast<double>(layer.tokens) * layer.inputs[t * n + i] * layer.inputs[t * n + j];
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), 0U);
    if (how.act_order)
        std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return h[a][a] > h[b][b]; });
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i)
        mean += h[i][i] / static_cast<double>(n);
    Matrix ordered(n, std::vector<double>(n));
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            ordered[i][j] = h[order[i]][order[j]] + (i == j ? damp * mean : 0);
    const Matrix first_inverse = inverse_of(ordered);

    std::vector<int> codes(layer.rows * n);
    // The inverses do not depend on the rows.
    std::vector<std::vector<double>> steps;
    Matrix inverse = first_inverse;
    for (std::size_t i = 0; i < n; ++i) {
        steps.push_back(inverse[i]);
        const Matrix before = inverse;
        for (std::size_t a = i; a < n; ++a)
            for (std::size_t b = i; b < n; ++b)
                inverse[a][b] -= before[a][i] * before[i][b] / before[i][i];
    }
    for (std::size_t row = 0; row < layer.rows; ++row) {
        const float* original = layer.weights.data() + row * n;
        std::vector<double> w(n);
        for (std::size_t i = 0; i < n; ++i)
            w[i] = original[order[i]];
        std::vector<double> seen = w;
        std::vector<Quantizer> fixed;
        for (std::size_t begin = 0; begin < n; begin += how.group) {
            fixed.push_back(how.quantizer);
            fixed.back().fit({original + begin, original + std::min(begin + how.group, n)});
        }
        Quantizer quantizer = how.quantizer;
        for (std::size_t i = 0; i < n; ++i) {
            if (i % how.at_once == 0)
                seen = w;
            if (how.fixed)
                quantizer = fixed[order[i] / how.group];
            else if (i % how.group == 0)
                quantizer.fit({seen.begin() + static_cast<std::ptrdiff_t>(i),
                               seen.begin() + static_cast<std::ptrdiff_t>(std::min(i + how.group, n))});
            const int code = codes[row * n + order[i]] = quantizer.code(w[i]);
            const double error = (w[i] - quantizer.value(code)) / steps[i][i];
            for (std::size_t j = i + 1; j < n; ++j)
                w[j] -= error * steps[i][j];
        }
    }
    return codes;
}

/// The codes that a result stores, counted from 0.
std::vector<int> stored_codes(const MethodResult& result, const Quantizer& quantizer, std::size_t count) {
    const std::vector<std::byte>& bytes = result.stored.at(0).bytes;
    std::vector<int> codes(count);
    for (std::size_t i = 0; i < count; ++i) {
        const auto byte = std::to_integer<int>(bytes[quantizer.bits == 0 ? i / 2 : i]);
        if (quantizer.bits == 0)
            codes[i] = i % 2 == 0 ? byte >> 4 : byte & 15;
        else if (quantizer.affine)
            codes[i] = byte;
        else
            codes[i] = static_cast<std::int8_t>(byte) + (1 << (quantizer.bits - 1));
    }
    return codes;
}

template <class T>
std::vector<T> array_of(const MethodResult& result, const char* name) {
    for (const StoredArray& array : result.stored)
        if (array.name == name) {
            std::vector<T> values(array.bytes.size() / sizeof(T));
            std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
            return values;
        }
    return {};
}

MethodResult apply(const MadeLayer& layer, const QString& format, const QString& method) {
    JobControl job;
    return apply_method(parse_method(method.toStdString()), parse_spec(format.toStdString()), layer.weights.data(),
                        layer.shape(), layer.calibration(), job);
}

} // namespace

Q_DECLARE_METATYPE(Case)

class TestGptq : public QObject {
    Q_OBJECT

private slots:
    void equals_the_naive_form_data() {
        QTest::addColumn<Case>("how");
        const auto row = [](const Case& how) {
            QTest::addRow("%s %s", qPrintable(how.format), qPrintable(how.method)) << how;
        };
        for (const int bits : {8, 4, 3, 2}) {
            const QString id = QString("int%1:scales=fp32,").arg(bits);
            row({id + "scope=channel", "gptq", {bits}, 192});
            row({id + "scope=channel,affine", "gptq", {bits, true}, 192});
            row({id + "group=64", "gptq:act_order", {bits}, 64, true});
            row({id + "group=32,affine", "gptq", {bits, true}, 32});
        }
        row({"int4:scales=fp32,group=32", "gptq:columns=32", {4}, 32, false, false, 32});
        row({"int4:scales=fp32,group=80", "gptq", {4}, 80});
        row({"int4:scales=fp32,group=128", "gptq:act_order,static_groups", {4}, 128, true, true});
        row({"int4:scales=fp32,group=128,affine", "gptq:act_order,damp=0.1", {4, true}, 128, true});
        row({"int3:scales=fp32,group=64", "gptq:static_groups", {3}, 64, false, true});
        row({"int3:scales=fp32,group=64", "gptq:fit=format", {3, false, false}, 64});
        row({"nf4", "gptq", {0}, 64, false, false, 64});
        row({"nf4:block=32", "gptq:act_order", {0}, 32, true, true});
    }

    void equals_the_naive_form() {
        QFETCH(Case, how);
        const MadeLayer layer(24, 192, 400, 7);
        const MethodResult result = apply(layer, how.format, how.method);
        const auto expected = naive_codes(layer, how, parse_method(how.method.toStdString()).real("damp"));
        QCOMPARE(stored_codes(result, how.quantizer, expected.size()), expected);
    }

    /// Codes, scales and the groups of columns that are stored give the reconstruction.
    void stores_what_decodes() {
        const MadeLayer layer(16, 160, 300, 3);
        for (const QString method : {"gptq", "gptq:act_order", "gptq:act_order,static_groups"}) {
            const MethodResult result = apply(layer, "int4:group=64,affine", method);
            const auto codes = stored_codes(result, {4, true}, layer.weights.size());
            const auto scales = array_of<float>(result, "scales.f32"), zeros = array_of<float>(result, "zeros.f32");
            const auto index = array_of<std::int32_t>(result, "g_idx.i32");
            QCOMPARE(index.empty(), method != "gptq:act_order");
            QCOMPARE(scales.size(), std::size_t{16 * 3});
            for (std::size_t i = 0; i < codes.size(); ++i) {
                const std::size_t column = i % 160;
                const std::size_t group =
                    i / 160 * 3 + (index.empty() ? column / 64 : static_cast<std::size_t>(index[column]));
                QCOMPARE(result.weight[i], (static_cast<float>(codes[i]) - zeros[group]) * scales[group]);
            }
            const double scale_bits = (16 + 4) * 16.0 * 3 / 2560, index_bits = index.empty() ? 0 : 32.0 / 16;
            QCOMPARE(result.bits_per_weight, 4 + scale_bits + index_bits);
            QCOMPARE(result.order.empty(), method == "gptq");
        }
    }

    void beats_rounding_to_nearest_data() {
        QTest::addColumn<QString>("format");
        for (const char* format : {"int8", "int4", "int3", "int2", "int4:group=32", "int3:affine",
                                   "int2:group=32,affine", "nf4", "nf4:dq", "nf4:block=128", "fp4", "fp4:dq,block=32"})
            QTest::newRow(format) << format;
    }

    void beats_rounding_to_nearest() {
        QFETCH(QString, format);
        const MadeLayer layer(40, 256, 600, 11);
        const double nearest = apply(layer, format, "rtn").output_error;
        for (const char* method : {"gptq", "gptq:act_order", "gptq:static_groups"}) {
            const double error = apply(layer, format, method).output_error;
            QVERIFY2(error < 0.9 * nearest, qPrintable(QString("%1: %2, %3").arg(method).arg(error).arg(nearest)));
        }
    }

    /// Blocks of the flattened tensor that reach over the ends of rows.
    void blocks_across_rows() {
        const MadeLayer layer(12, 100, 300, 5);
        for (const char* format : {"nf4", "nf4:dq", "fp4:block=512"}) {
            const MethodResult result = apply(layer, format, "gptq"), nearest = apply(layer, format, "rtn");
            QVERIFY(result.output_error < nearest.output_error);
            QCOMPARE(result.bits_per_weight, nearest.bits_per_weight);
            for (std::size_t i = 0; i < result.stored.size(); ++i)
                QCOMPARE(result.stored[i].bytes.size(), nearest.stored[i].bytes.size());
        }
    }

    /// Inputs that do not correlate leave nothing to make good.
    void without_correlation_it_rounds_to_nearest() {
        const MadeLayer layer(8, 64, 1, 9);
        Calibration calibration(64);
        for (std::size_t i = 0; i < 64; ++i) {
            std::vector<float> row(64);
            row[i] = 1.5F;
            calibration.add(row.data(), 1);
        }
        JobControl job;
        for (const char* format : {"int4", "int3:affine,group=16", "nf4"}) {
            const auto of = [&](const char* method) {
                return apply_method(parse_method(method), parse_spec(format), layer.weights.data(), layer.shape(),
                                    calibration, job)
                    .weight;
            };
            QCOMPARE(of("gptq:fit=format"), of("rtn"));
            QCOMPARE(of("gptq:act_order,fit=format"), of("rtn"));
        }
    }

    void does_not_depend_on_threads() {
        const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, 4);
        const MadeLayer layer(200, 320, 300, 13);
        for (const char* format : {"int4", "nf4:dq", "int2:affine,group=32"}) {
            MethodResult results[2];
            for (const int threads : {1, 4})
                tbb::task_arena(threads).execute(
                    [&] { results[threads / 4] = apply(layer, format, "gptq:act_order"); });
            QCOMPARE(results[0].weight, results[1].weight);
            QCOMPARE(results[0].output_error, results[1].output_error);
        }
    }

    /// Inputs that are always 0 make their weights 0, as in the reference; others are as without them.
    void dead_columns() {
        MadeLayer layer(16, 96, 300, 17);
        for (std::size_t i = 0; i < layer.inputs.size(); ++i)
            if (i % 96 >= 64 && i % 96 < 70)
                layer.inputs[i] = 0;
        const MethodResult result = apply(layer, "int4:group=32", "gptq");
        for (std::size_t i = 0; i < result.weight.size(); ++i) {
            QVERIFY(std::isfinite(result.weight[i]));
            if (i % 96 >= 64 && i % 96 < 70)
                QCOMPARE(result.weight[i], 0.0F);
        }
        QVERIFY(result.output_error < apply(layer, "int4:group=32", "rtn").output_error);
    }
};

QTEST_GUILESS_MAIN(TestGptq)
#include "test_gptq.moc"
