#include <QDir>
#include <QFile>
#include <QTest>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/formats/load.h"
#include "core/model/decoder.h"

using namespace qs;

namespace {

const QString data_folder = QStringLiteral(QUANTOSCOPE_TEST_DATA "/core/model/data/");
const QString stories = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/models/stories260K/");

nlohmann::json read_json(const QString& path) {
    QFile file(path);
    const QByteArray bytes = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    return nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
}

Matrix read_logits(const QString& path) {
    const auto checkpoint = open_checkpoint(path.toStdString());
    const TensorInfo& tensor = checkpoint->tensors.at(0);
    Matrix logits(static_cast<Index>(tensor.shape[0]), static_cast<Index>(tensor.shape[1]));
    load_weights(tensor.dtype, false, checkpoint->data(tensor).data(), 0, static_cast<std::size_t>(logits.size()),
                 logits.data());
    return logits;
}

Decoder open_decoder(const QString& path) {
    return Decoder(open_checkpoint(path.toStdString()));
}

/// Mean negative log-likelihood of all tokens but the first of each text.
double mean_nll(const Decoder& decoder, const std::vector<std::vector<int>>& texts) {
    double sum = 0;
    std::size_t count = 0;
    for (const auto& text : texts) {
        const Eigen::MatrixXd logits = decoder.run(text).cast<double>();
        for (std::size_t i = 0; i + 1 < text.size(); ++i) {
            const auto row = logits.row(static_cast<Index>(i));
            const double top = row.maxCoeff();
            sum += top + std::log((row.array() - top).exp().sum()) - row[text[i + 1]];
            ++count;
        }
    }
    return sum / static_cast<double>(count);
}

} // namespace

/// The forward pass against Hugging Face transformers in float64 (data/, made by make_reference_models.py) and against
/// the reference perplexities of a trained model.
class Decoders : public QObject {
    Q_OBJECT

private slots:
    void logits_of_every_family_data() {
        QTest::addColumn<QString>("model");
        QTest::addColumn<QString>("file");
        for (const QString& model : QDir(data_folder).entryList(QDir::Dirs | QDir::NoDotAndDotDot)) {
            QTest::newRow(qPrintable(model)) << model << "model.safetensors";
            if (QFile::exists(data_folder + model + "/model.gguf"))
                QTest::newRow(qPrintable(model + " gguf")) << model << "model.gguf";
        }
    }

    void logits_of_every_family() {
        QFETCH(QString, model);
        QFETCH(QString, file);
        const QString folder = data_folder + model + "/";
        const std::vector<int> ids = read_json(folder + "reference.json")["ids"];
        const Matrix expected = read_logits(folder + "logits.safetensors");
        const Matrix logits = open_decoder(folder + file).run(ids);
        QCOMPARE(logits.rows(), expected.rows());
        QCOMPARE(logits.cols(), expected.cols());
        const double worst = (logits - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff();
        QVERIFY2(worst < 1e-5, qPrintable(QString::number(worst)));
    }

    void perplexity_of_stories_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<double>("nll");
        const auto row = [](const char* file, double nll) { QTest::newRow(file) << QString(file) << nll; };
        // REFERENCE.md of the model: two independent forward passes in double precision.
        row("model.safetensors", 1.266441);
        row("sharded", 1.266441);
        row("model-f16.safetensors", 1.266465);
        row("model-bf16.safetensors", 1.265748);
        row("gguf/stories260K-f32.gguf", 1.266441);
        row("gguf/stories260K-f16.gguf", 1.266461);
        row("gguf/stories260K-bf16.gguf", 1.265850);
        row("gguf/stories260K-q8_0.gguf", 1.267415);
        row("gguf/stories260K-q5_1.gguf", 1.281302);
        row("gguf/stories260K-q4_k_m.gguf", 1.282171);
        row("gguf/stories260K-iq4_nl.gguf", 1.332370);
        row("gguf/stories260K-q4_0.gguf", 1.339303);
    }

    void perplexity_of_stories() {
        QFETCH(QString, file);
        QFETCH(double, nll);
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const std::vector<std::vector<int>> texts = read_json(stories + "reference_ids.json");
        const double found = mean_nll(open_decoder(stories + "derived/" + file), texts);
        QVERIFY2(std::abs(found - nll) < 1e-5, qPrintable(QString::number(found, 'g', 9)));
    }
};

QTEST_GUILESS_MAIN(Decoders)
#include "test_decoder.moc"
