#pragma once

#include <QFile>
#include <QProcess>
#include <QStringList>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace qs::test {

/// What one run of quantoscope-cli left behind.
struct Outcome {
    int status = -1;
    QByteArray out, error;

    /// Standard output as one JSON document; discarded() where it is anything else.
    nlohmann::json json() const { return nlohmann::json::parse(out.begin(), out.end(), nullptr, false); }
    /// Whether standard error is the one line that a failure may write.
    bool one_error_line() const {
        return error.startsWith("error: ") && error.endsWith('\n') && error.count('\n') == 1;
    }
};

inline QString cli_path() {
    return QStringLiteral(QUANTOSCOPE_BIN_DIR "/quantoscope-cli");
}

inline Outcome run_cli(const QStringList& arguments) {
    QProcess process;
    process.start(cli_path(), arguments);
    process.waitForFinished(120'000);
    const bool exited = process.state() == QProcess::NotRunning && process.exitStatus() == QProcess::NormalExit;
    return {exited ? process.exitCode() : -1, process.readAllStandardOutput(), process.readAllStandardError()};
}

/// The bytes of a file; none where it cannot be read.
inline QByteArray contents(const QString& path) {
    QFile file(path);
    return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

/// Equal to a relative 1e-9, and zero only to zero.
inline bool close(double a, double b, double tolerance = 1e-9) {
    return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

} // namespace qs::test
