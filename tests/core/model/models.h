#pragma once

#include <QFile>
#include <QString>

#include <nlohmann/json.hpp>

#include "core/base/resources.h"
#include "core/model/decoder.h"

namespace qs::test {

/// Tiny models of every family, made by make_reference_models.py: in the tree, or as gpu-package carries them.
inline const QString tiny_models = [] {
    const QString tree = QStringLiteral(QUANTOSCOPE_TEST_DATA "/core/model/data/");
    return QFile::exists(tree) ? tree : QString::fromStdString((executable_dir() / "../models/").string());
}();
/// A trained model of 260 thousand parameters with its reference values.
inline const QString stories = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/models/stories260K/");

inline nlohmann::json read_json(const QString& path) {
    QFile file(path);
    const QByteArray bytes = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    return nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
}

inline std::vector<int> tiny_ids(const QString& model) {
    return read_json(tiny_models + model + "/reference.json")["ids"];
}

inline Decoder open_decoder(const QString& path) {
    return Decoder(open_checkpoint(path.toStdString()));
}

/// −ln p of all tokens but the first of a text, from its logits.
inline std::vector<double> nll_of(const Matrix& logits, const std::vector<int>& text) {
    std::vector<double> result;
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        const Eigen::RowVectorXd row = logits.row(static_cast<Index>(i)).cast<double>();
        const double top = row.maxCoeff();
        result.push_back(top + std::log((row.array() - top).exp().sum()) - row[text[i + 1]]);
    }
    return result;
}

/// The largest difference beside the largest value.
inline double difference(const Matrix& a, const Matrix& b) {
    return static_cast<double>((a - b).cwiseAbs().maxCoeff() / b.cwiseAbs().maxCoeff());
}

} // namespace qs::test
