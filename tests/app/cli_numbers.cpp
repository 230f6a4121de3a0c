#include <QTemporaryDir>
#include <QTest>

#include <map>

#include "tests/app/cli_run.h"
#include "tests/core/analysis/test_data.h"

using namespace qs::test;
using nlohmann::json;

namespace {

/// Nearest binary16, ties to even, by arithmetic rather than bits; for normal half magnitudes.
double to_half(double value) {
    int exponent = 0;
    const double mantissa = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(mantissa, 11)), exponent - 11);
}

/// int8 with a scale for each row, rounded to nearest, as FORMATS.md defines it.
std::vector<double> int8_rows(const std::vector<float>& weights, std::size_t columns, std::vector<int>& codes) {
    std::vector<double> decoded;
    for (std::size_t row = 0; row < weights.size(); row += columns) {
        float absmax = 0;
        for (std::size_t i = 0; i < columns; ++i)
            absmax = std::max(absmax, std::abs(weights[row + i]));
        const auto scale = static_cast<float>(to_half(absmax / 127.0F));
        for (std::size_t i = 0; i < columns; ++i) {
            const double code = std::clamp(std::nearbyint(weights[row + i] / scale), -128.0F, 127.0F);
            codes.push_back(static_cast<int>(code));
            decoded.push_back(code * double{scale});
        }
    }
    return decoded;
}

double entropy_of(const std::vector<int>& codes) {
    std::map<int, double> counts;
    for (const int code : codes)
        ++counts[code];
    double entropy = 0;
    for (const auto& [code, count] : counts) {
        const double p = count / static_cast<double>(codes.size());
        entropy -= p * std::log2(p);
    }
    return entropy;
}

double mean_of(const std::vector<float>& weights, double centre, int power) {
    double sum = 0;
    for (const float w : weights)
        sum += std::pow(w - centre, power);
    return sum / static_cast<double>(weights.size());
}

/// The entry of a list whose `key` is `value`.
const json& entry(const json& list, const char* key, const json& value) {
    for (const json& item : list)
        if (item[key] == value)
            return item;
    static const json none;
    return none;
}

json analyze(const QString& model, const char* formats, const QStringList& more = {}) {
    const Outcome outcome =
        run_cli(QStringList{"analyze", model, "--formats", formats, "--device", "cpu", "--json"} + more);
    return outcome.status == 0 && outcome.error.isEmpty() ? outcome.json() : json(outcome.error.toStdString());
}

/// What an independent program computed for stories260K: numpy, float32 codecs written from the definitions, sums in
/// float64 over the 36 matrices (blocks of 64 over the flattened tensor for nf4, the level nearest to w/absmax; float16
/// row scales for int8; q4_0 where 32 divides the rows, else float16).
struct Reference {
    const char* format;
    double bits, mse, relative_error, sqnr, cosine, largest, mean_error;
};
constexpr Reference stories[] = {
    {"nf4", 4.5, 0.000254059827034862, 0.0943262290790221, 20.507350543899637, 0.9955413546999093, 0.22737038135528564,
     8.205451962298557e-05},
    {"int8", 8.2166831194471861, 1.0227813028362453e-06, 0.0059848857448415484, 44.458882722556538, 0.99998209440925423,
     0.0071380138397216797, 6.892981909777662e-06},
    {"q4_0", 6.9407699901283317, 0.00018149797411725734, 0.079726071479980412, 21.96799270674466, 0.99684052669308398,
     0.12958991527557373, 9.4160908207234359e-05},
};

const QString stories_folder = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/models/stories260K/derived/");

} // namespace

/// The numbers of `analyze` against arithmetic done here and against an independent program.
class CliNumbers : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

private slots:
    void statistics_and_errors() {
        const std::vector<float> weights = random_weights(48 * 96, 7);
        const QString model = write_safetensors(folder_, "known.safetensors",
                                                {stored("layers.0.mlp.up_proj.weight", "F32", {48, 96}, weights)});
        const json document = analyze(model, "int8");
        QVERIFY2(document.is_object(), document.dump().c_str());
        const json& tensor = document["tensors"].at(0);
        check_statistics(weights, tensor["statistics"]);

        std::vector<int> codes;
        const std::vector<double> decoded = int8_rows(weights, 96, codes);
        double w2 = 0, v2 = 0, wv = 0, d2 = 0, d = 0, largest = 0;
        std::size_t at = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const double w = weights[i], v = decoded[i];
            w2 += w * w;
            v2 += v * v;
            wv += w * v;
            d2 += (w - v) * (w - v);
            d += v - w;
            if (std::abs(w - v) > largest) {
                largest = std::abs(w - v);
                at = i;
            }
        }
        const auto n = static_cast<double>(weights.size());
        const json& result = tensor["results"].at(0);
        QVERIFY(close(result["mse"], d2 / n));
        QVERIFY(close(result["rmse"], std::sqrt(d2 / n)));
        QVERIFY(close(result["relative_error"], std::sqrt(d2 / w2)));
        QVERIFY(close(result["sqnr_db"], 10 * std::log10(w2 / d2)));
        QVERIFY(close(result["cosine"], wv / std::sqrt(w2 * v2)));
        QVERIFY(close(result["max_abs_error"], largest));
        QCOMPARE(result["max_abs_error_index"].get<std::size_t>(), at);
        QVERIFY(std::abs(result["mean_error"].get<double>() - d / n) < 1e-15);
        QVERIFY(close(result["code_entropy"], entropy_of(codes)));
        QVERIFY(close(result["bits_per_weight"], 8 + 16.0 / 96));
        QVERIFY(result["fallback"].is_null() && result["flagged"] == false);
        // One tensor: the model, its layer and its role say the same.
        for (const json* results :
             {&document["model"], &document["layers"].at(0)["results"], &document["roles"].at(0)["results"]})
            for (const char* field : {"mse", "sqnr_db", "cosine", "code_entropy", "bits_per_weight", "max_abs_error"})
                QVERIFY2(close(results->at(0)[field], result[field]), field);
        QVERIFY(document["layers"].at(0)["layer"] == 0 && document["roles"].at(0)["role"] == "mlp_up");
    }

    void what_is_not_a_number() {
        std::vector<float> weights = random_weights(4 * 64, 3);
        weights[5] = NAN;
        weights[70] = INFINITY;
        weights[71] = -INFINITY;
        const QString model = write_safetensors(
            folder_, "bad.safetensors",
            {stored("broken", "F32", {4, 64}, weights), stored("zero", "F32", {2, 64}, std::vector<float>(128, 0))});
        const json document = analyze(model, "fp32,nf4");
        QVERIFY2(document.is_object(), document.dump().c_str());
        const json& broken = entry(document["tensors"], "name", "broken");
        QCOMPARE(broken["statistics"]["nan"].get<int>(), 1);
        QCOMPARE(broken["statistics"]["inf"].get<int>(), 2);
        QCOMPARE(broken["statistics"]["count"].get<int>(), 256);
        for (const json& result : broken["results"]) {
            QCOMPARE(result["nonfinite"].get<int>(), 3);
            QVERIFY(result["flagged"] == true);
        }
        QVERIFY(broken["results"][0]["sqnr_db"] == "inf");
        QVERIFY(broken["results"][0]["code_entropy"] == "nan");
        QVERIFY(broken["results"][1]["sqnr_db"].is_number());
        const json& zero = entry(document["tensors"], "name", "zero");
        QCOMPARE(zero["statistics"]["zeros"].get<int>(), 128);
        QVERIFY(zero["results"][1]["sqnr_db"] == "inf" && zero["results"][1]["flagged"] == false);
        QVERIFY(document["model"][1]["flagged"] == true);
    }

    void overflow_is_counted() {
        std::vector<float> weights(2 * 64, 1);
        weights[9] = 1e6F;
        const QString model = write_safetensors(folder_, "over.safetensors", {stored("w", "F32", {2, 64}, weights)});
        const json document = analyze(model, "fp16");
        QCOMPARE(document["tensors"][0]["results"][0]["nonfinite"].get<int>(), 1);
        QVERIFY(document["tensors"][0]["results"][0]["flagged"] == true);
    }

    void real_model_data() {
        QTest::addColumn<QString>("path");
        QTest::newRow("safetensors") << stories_folder + "model.safetensors";
        QTest::newRow("index") << stories_folder + "sharded/model.safetensors.index.json";
        QTest::newRow("folder") << stories_folder + "sharded";
        QTest::newRow("gguf") << stories_folder + "gguf/stories260K-f32.gguf";
    }

    void real_model() {
        QFETCH(QString, path);
        if (!QFile::exists(path))
            QSKIP("the folder of real checkpoints is absent");
        const json document = analyze(path, "nf4,int8,q4_0");
        QVERIFY2(document.is_object(), document.dump().c_str());
        QCOMPARE(document["tensors"].size(), std::size_t{36});
        QCOMPARE(document["skipped"].size(), std::size_t{11});
        for (const Reference& reference : stories) {
            const json& total = entry(document["model"], "format", reference.format);
            QVERIFY(close(total["bits_per_weight"], reference.bits));
            QVERIFY(close(total["mse"], reference.mse));
            QVERIFY(close(total["relative_error"], reference.relative_error));
            QVERIFY(close(total["sqnr_db"], reference.sqnr));
            QVERIFY(close(total["cosine"], reference.cosine));
            QVERIFY(close(total["max_abs_error"], reference.largest));
            QVERIFY(std::abs(total["mean_error"].get<double>() - reference.mean_error) < 1e-12);
            QCOMPARE(total["weights"].get<int>(), 259328);
        }
        check_real_tensors(document);
    }

    void containers_agree() {
        const QString first = stories_folder + "model.safetensors";
        if (!QFile::exists(first))
            QSKIP("the folder of real checkpoints is absent");
        const json one = analyze(first, "nf4,int8,q4_0");
        for (const char* other : {"sharded", "gguf/stories260K-f32.gguf"}) {
            const json two = analyze(stories_folder + other, "nf4,int8,q4_0");
            for (const json& tensor : one["tensors"]) {
                const json twin = same_place(two["tensors"], tensor);
                QVERIFY2(twin["shape"] == tensor["shape"], tensor["name"].get<std::string>().c_str());
                for (std::size_t i = 0; i < 3; ++i)
                    for (const char* field : {"mse", "sqnr_db", "cosine", "max_abs_error", "code_entropy"})
                        QVERIFY2(close(tensor["results"][i][field], twin["results"][i][field]), field);
            }
        }
    }

private:
    static void check_statistics(const std::vector<float>& weights, const json& statistics) {
        const auto [low, high] = std::minmax_element(weights.begin(), weights.end());
        const double mean = mean_of(weights, 0, 1), variance = mean_of(weights, mean, 2), std = std::sqrt(variance);
        const auto beyond = [&](double sigmas) {
            return std::count_if(weights.begin(), weights.end(),
                                 [&](float w) { return std::abs(w - mean) > sigmas * std; });
        };
        QCOMPARE(statistics["count"].get<std::size_t>(), weights.size());
        QCOMPARE(statistics["min"].get<double>(), double{*low});
        QCOMPARE(statistics["max"].get<double>(), double{*high});
        QVERIFY(std::abs(statistics["mean"].get<double>() - mean) < 1e-14);
        QVERIFY(close(statistics["std"], std));
        QVERIFY(close(statistics["skewness"], mean_of(weights, mean, 3) / std::pow(std, 3)));
        QVERIFY(close(statistics["excess_kurtosis"], mean_of(weights, mean, 4) / (variance * variance) - 3));
        QCOMPARE(statistics["beyond_3_sigma"].get<std::ptrdiff_t>(), beyond(3));
        QCOMPARE(statistics["beyond_6_sigma"].get<std::ptrdiff_t>(), beyond(6));
        QVERIFY(statistics["zeros"] == 0 && statistics["nan"] == 0 && statistics["inf"] == 0);
    }

    /// The tensor of the same role in the same layer.
    static json same_place(const json& tensors, const json& like) {
        for (const json& tensor : tensors)
            if (tensor["role"] == like["role"] && tensor["layer"] == like["layer"])
                return tensor;
        return {};
    }

    /// Two tensors as the independent program of `stories` computed them.
    static void check_real_tensors(const json& document) {
        const json down = same_place(document["tensors"], {{"role", "mlp_down"}, {"layer", 0}});
        const json& statistics = down["statistics"];
        QVERIFY(close(statistics["mean"], 0.00021914215098615543));
        QVERIFY(close(statistics["std"], 0.12424493374884085));
        QVERIFY(close(statistics["skewness"], 0.027300503808083798));
        QVERIFY(close(statistics["excess_kurtosis"], 1.0449005585984512));
        QVERIFY(statistics["beyond_3_sigma"] == 82 && statistics["beyond_6_sigma"] == 0);
        QVERIFY(close(down["results"][0]["sqnr_db"], 20.699118321197545));
        QVERIFY(close(down["results"][0]["code_entropy"], 3.8607912199087253));
        QVERIFY(close(down["results"][1]["sqnr_db"], 43.324568055097146));
        QVERIFY(close(down["results"][1]["code_entropy"], 7.457258254787444));
        // Rows of 172 weights are not blocks of 32.
        QVERIFY(down["results"][2]["fallback"] == "fp16");
        QVERIFY(close(down["results"][2]["sqnr_db"], 73.792424790352399));

        const json k = same_place(document["tensors"], {{"role", "attention_k"}, {"layer", 2}});
        QVERIFY(close(k["results"][0]["sqnr_db"], 21.161659674398663));
        QVERIFY(close(k["results"][1]["mse"], 8.5447865576478055e-07));
        QVERIFY(close(k["results"][2]["sqnr_db"], 22.154857338764561));
        QVERIFY(close(k["results"][2]["code_entropy"], 3.8314661500914));
    }
};

QTEST_GUILESS_MAIN(CliNumbers)
#include "cli_numbers.moc"
