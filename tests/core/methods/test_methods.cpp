// Before Qt, whose macro `emit` is a name in it.
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <QTest>

#include <cmath>
#include <functional>
#include <limits>

#include "core/formats/registry.h"
#include "core/methods/apply.h"
#include "tests/core/methods/made_layer.h"

using namespace qs;
using namespace qs::test;

namespace {

/// A format that the method takes.
std::vector<std::string> formats_for(const std::string& method) {
    std::vector<std::string> taken;
    for (const char* format : {"int8", "int4", "int3:affine", "int2:group=32", "nf4", "nf4:dq", "fp4", "q4_K",
                               "iq2_xxs", "q4_0", "llm_int8", "mxfp4", "fp8_e4m3"})
        if (qs::method(method).takes(parse_spec(format)))
            taken.emplace_back(format);
    return taken;
}

MethodResult apply(const MadeLayer& layer, const std::string& format, const std::string& method,
                   const Calibration& calibration) {
    JobControl job;
    return apply_method(parse_method(method), parse_spec(format), layer.weights.data(), layer.shape(), calibration,
                        job);
}

QString refusal(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

} // namespace

class TestMethods : public QObject {
    Q_OBJECT

private slots:
    void every_method_has_defaults_and_words() {
        for (const Method& entry : methods()) {
            const MethodSpec spec = parse_method(entry.id);
            QCOMPARE(spec.text(), entry.id);
            QVERIFY(!entry.title.empty() && !entry.source.empty() && !entry.formats.empty());
            QVERIFY(!formats_for(entry.id).empty());
            for (const Parameter& parameter : entry.parameters) {
                QVERIFY(!parameter.help.empty());
                // The default is a value that may be given.
                const auto given = entry.id + ":" + parameter.name + "=" + parameter.default_value;
                QCOMPARE(parse_method(given), spec);
            }
        }
    }

    void text_data() {
        QTest::addColumn<QString>("text");
        QTest::addColumn<QString>("canonical");
        const auto row = [](const char* text, const char* canonical) { QTest::newRow(text) << text << canonical; };
        row("gptq:act_order,damp=0.01", "gptq:act_order");
        row(" gptq : damp=0.050 , act_order=1", "");
        row("gptq:damp=0.050,act_order=1", "gptq:act_order,damp=0.05");
        row("gptq:fit=format,static_groups", "gptq:static_groups,fit=format");
        row("awq:clip=0,steps=10", "awq:steps=10,clip=0");
        row("hqq:early_stop=false", "hqq:early_stop=0");
        row("smoothquant:alpha=0.5", "smoothquant");
        row("smoothquant:alpha=0.8,activations=fp8", "smoothquant:alpha=0.8,activations=fp8");
        row("llm_int8:threshold=6", "llm_int8");
        row("llm_int8:threshold=4.5", "llm_int8:threshold=4.5");
    }

    void text() {
        QFETCH(QString, text);
        QFETCH(QString, canonical);
        if (canonical.isEmpty()) {
            QVERIFY_EXCEPTION_THROWN(parse_method(text.toStdString()), Error);
            return;
        }
        const MethodSpec spec = parse_method(text.toStdString());
        QCOMPARE(QString::fromStdString(spec.text()), canonical);
        QCOMPARE(parse_method(spec.text()), spec);
    }

    void lists() {
        const auto specs = parse_methods("rtn,gptq:act_order,damp=0.1,awq,gptq:damp=0.1,act_order,hqq:beta=5");
        QCOMPARE(specs.size(), std::size_t{4});
        QCOMPARE(specs[1].text(), std::string("gptq:act_order,damp=0.1"));
        QCOMPARE(specs[2].text(), std::string("awq"));
        QCOMPARE(specs[3].real("beta"), 5.0);
    }

    void refused_data() {
        QTest::addColumn<QString>("text");
        QTest::addColumn<QStringList>("says");
        const auto row = [](const char* text, const QStringList& says) { QTest::newRow(text) << text << says; };
        row("gtpq", {"method 'gtpq'", "gptq"});
        row("gptq:dampp=1", {"method gptq", "dampp", "act_order"});
        row("gptq:damp", {"damp needs a value", "damp=0.01"});
        row("gptq:damp=2", {"'2'", "damp", "0 to 1"});
        row("hqq:p=0", {"'0'", "0.1 to 1"});
        row("gptq:fit=awq", {"'awq'", "gptq, format"});
        row("awq:steps=0", {"'0'", "1 to 1000"});
        row("rtn:group=3", {"method rtn", "takes none"});
    }

    void refused() {
        QFETCH(QString, text);
        QFETCH(QStringList, says);
        const QString error = refusal([&] { parse_method(text.toStdString()); });
        for (const QString& part : says)
            QVERIFY2(error.contains(part), qPrintable(error));
    }

    void other_formats_are_refused() {
        const MadeLayer layer(4, 64, 20, 1);
        for (const auto& [method, format] :
             std::initializer_list<std::pair<const char*, const char*>>{{"gptq", "q4_K"},
                                                                        {"gptq", "int4:scope=tensor"},
                                                                        {"awq", "mxfp4"},
                                                                        {"hqq", "nf4"},
                                                                        {"smoothquant", "int4"},
                                                                        {"llm_int8", "int8"},
                                                                        {"llm_int8", "llm_int8:threshold=0.5"},
                                                                        {"imatrix", "nf4"}}) {
            const QString error = refusal([&, m = method, f = format] { apply(layer, f, m, layer.calibration()); });
            QVERIFY2(error.contains(QString("method ") + method) && error.contains(format) && error.contains("takes"),
                     qPrintable(error));
        }
    }

    void calibration_must_fit() {
        const MadeLayer layer(4, 64, 20, 1);
        for (const Method& entry : methods()) {
            const std::string format = formats_for(entry.id).front();
            const QString none = refusal([&] { apply(layer, format, entry.id, Calibration(64)); });
            QCOMPARE(none.isEmpty(), !entry.calibrates);
            QVERIFY(none.isEmpty() || none.contains("no tokens"));
            const MadeLayer other(4, 32, 20, 1);
            const QString differs = refusal([&] { apply(layer, format, entry.id, other.calibration()); });
            QVERIFY2(differs.contains("32 inputs") && differs.contains("64 columns"), qPrintable(differs));
        }
    }

    void rtn_is_the_format() {
        const MadeLayer layer(6, 512, 30, 2);
        for (const char* format : {"q4_K", "nf4:dq", "int4", "int8:scope=tensor", "nvfp4", "fp8_e4m3", "bf16"}) {
            const MethodResult result = apply(layer, format, "rtn", layer.calibration());
            const auto codec = bind_codec(parse_spec(format), layer.shape());
            std::vector<float> decoded(layer.weights.size());
            if (codec->needs_scan()) {
                codec->scan(layer.weights.data(), 0, layer.weights.size());
                codec->finish_scan();
            }
            codec->quantize(layer.weights.data(), 0, layer.weights.size(), nullptr, decoded.data());
            QCOMPARE(result.weight, decoded);
            QCOMPARE(result.stored.size(), codec->store(layer.weights.data()).size());
            QCOMPARE(result.bits_per_weight, codec->stored_bits() / static_cast<double>(decoded.size()));
            ErrorSums sums;
            codec->evaluate(layer.weights.data(), 0, layer.weights.size(), sums, nullptr);
            QVERIFY(std::abs(result.weight_error.sum_d2 - sums.sum_d2) <= 1e-12 * sums.sum_d2);
        }
        QCOMPARE(apply(MadeLayer(4, 96, 9, 1), "q4_K", "rtn", Calibration(96)).format.id, std::string("q5_0"));
    }

    /// Twice the mean squared error of the outputs.
    void output_error_is_that_of_the_outputs() {
        const MadeLayer layer(20, 200, 150, 3);
        const MethodResult result = apply(layer, "int3:affine", "rtn", layer.calibration());
        double error = 0, power = 0;
        for (std::size_t t = 0; t < 150; ++t)
            for (std::size_t row = 0; row < 20; ++row) {
                double exact = 0, rounded = 0;
                for (std::size_t i = 0; i < 200; ++i) {
                    exact += static_cast<double>(layer.inputs[t * 200 + i]) * layer.weights[row * 200 + i];
                    rounded += static_cast<double>(layer.inputs[t * 200 + i]) * result.weight[row * 200 + i];
                }
                error += (exact - rounded) * (exact - rounded) * 2 / 150;
                power += exact * exact * 2 / 150;
            }
        QVERIFY(std::abs(result.output_error - error) < 1e-6 * error);
        QVERIFY(std::abs(result.output_power - power) < 1e-6 * power);
        QVERIFY(std::abs(result.simulated_error - error) < 1e-4 * error);
    }

    void importance_lowers_the_output_error() {
        const MadeLayer layer(32, 512, 400, 4);
        const Calibration calibration = layer.calibration();
        for (const char* format : {"q4_K", "q2_K", "q4_0", "iq4_nl"})
            QVERIFY2(apply(layer, format, "imatrix", calibration).output_error <
                         apply(layer, format, "rtn", calibration).output_error,
                     format);
        QVERIFY(apply(layer, "iq2_xxs", "imatrix", calibration).output_error <
                apply(layer, "iq2_xxs", "imatrix", calibration).output_power);
    }

    void does_not_depend_on_threads() {
        const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, 4);
        const MadeLayer layer(130, 512, 150, 5);
        for (const Method& entry : methods())
            for (const std::string& format : formats_for(entry.id)) {
                MethodResult results[2];
                for (const int threads : {1, 4})
                    tbb::task_arena(threads).execute([&] {
                        results[threads / 4] =
                            apply(layer, format, entry.id == "rtn" && format == "iq2_xxs" ? "imatrix" : entry.id,
                                  layer.calibration());
                    });
                QCOMPARE(results[0].weight, results[1].weight);
                QCOMPARE(results[0].output_error, results[1].output_error);
                for (std::size_t i = 0; i < results[0].stored.size(); ++i)
                    QVERIFY(results[0].stored[i].bytes == results[1].stored[i].bytes);
            }
    }

    void cancelled() {
        const MadeLayer layer(64, 128, 50, 6);
        JobControl job;
        job.cancel();
        for (const Method& entry : methods())
            QVERIFY_EXCEPTION_THROWN(apply_method(parse_method(entry.id), parse_spec(formats_for(entry.id).front()),
                                                  layer.weights.data(), layer.shape(), layer.calibration(), job),
                                     Cancelled);
    }

    /// Matrices that no model has, in every method and format that it takes: finite, and about no worse than zeros (two
    /// bits can be).
    void degenerate_data() {
        QTest::addColumn<QString>("kind");
        for (const char* kind : {"zeros", "constant rows", "one column", "one row", "one weight", "short row",
                                 "not finite", "one token", "equal inputs", "tiny", "huge"})
            QTest::newRow(kind) << kind;
    }

    void degenerate() {
        QFETCH(QString, kind);
        const std::size_t rows = kind == "one row" || kind == "one weight" ? 1 : 6;
        const std::size_t columns = kind == "one column" || kind == "one weight" ? 1 : kind == "short row" ? 7 : 96;
        MadeLayer layer(rows, columns, kind == "one token" ? 1 : 40, 8);
        for (std::size_t i = 0; i < layer.weights.size(); ++i) {
            float& w = layer.weights[i];
            if (kind == "zeros")
                w = 0;
            else if (kind == "constant rows")
                w = 0.25F * static_cast<float>(i / columns + 1);
            else if (kind == "not finite" && i % 50 == 7)
                w = i % 100 == 7 ? std::nanf("") : -std::numeric_limits<float>::infinity();
            else if (kind == "tiny")
                w *= 1e-7F;
            else if (kind == "huge")
                w *= 1e5F;
        }
        if (kind == "equal inputs")
            for (std::size_t i = 0; i < layer.inputs.size(); ++i)
                layer.inputs[i] = layer.inputs[i % columns];
        const Calibration calibration = layer.calibration();
        for (const Method& entry : methods())
            for (const std::string& format : formats_for(entry.id)) {
                if (entry.id == "rtn" && format == "iq2_xxs")
                    continue;
                const MethodResult result = apply(layer, format, entry.id, calibration);
                const auto what = QString("%1 %2").arg(entry.id.c_str(), format.c_str());
                for (const float w : result.weight)
                    QVERIFY2(std::isfinite(w), qPrintable(what));
                QVERIFY2(result.output_error <= 1.5 * result.output_power || kind == "tiny",
                         qPrintable(what + QString(": %1, %2").arg(result.output_error).arg(result.output_power)));
                QCOMPARE(result.weight_error.nonfinite > 0, kind == "not finite");
                QVERIFY(std::isfinite(result.bits_per_weight) && !result.stored.empty());
            }
    }

    void inputs_of_zeros() {
        MadeLayer layer(6, 64, 40, 9);
        std::ranges::fill(layer.inputs, 0.0F);
        const Calibration calibration = layer.calibration();
        const QString error = refusal([&] { apply(layer, "int4", "gptq", calibration); });
        QVERIFY2(error.contains("inputs of the calibration are 0"), qPrintable(error));
        for (const char* method : {"awq", "hqq", "rtn"}) {
            const MethodResult result = apply(layer, "int4", method, calibration);
            QVERIFY(result.weight_error.sum_d2 < 0.1 * result.weight_error.sum_w2);
        }
    }

    void no_weights() {
        const Calibration calibration(0);
        JobControl job;
        QVERIFY(refusal([&] {
                    apply_method(parse_method("gptq"), parse_spec("int4"), nullptr, {4, 0}, calibration, job);
                }).contains("no weights"));
    }
};

QTEST_GUILESS_MAIN(TestMethods)
#include "test_methods.moc"
