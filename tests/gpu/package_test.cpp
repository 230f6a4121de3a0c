#include <QtTest>

#include <QDirIterator>
#include <QProcess>
#include <QTemporaryDir>

/// The package of the CUDA device's tests, unpacked elsewhere, in an environment that has nothing of the build's. GPUs
/// are hidden: what is tested is that everything is carried.
class PackageTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        QCOMPARE(run("tar", {"xzf", QUANTOSCOPE_BUILD_DIR "/gpu-package.tar.gz", "-C", folder_.path()}).status, 0);
    }

    void is_small() {
        QVERIFY(QFileInfo(QUANTOSCOPE_BUILD_DIR "/gpu-package.tar.gz").size() < 60 << 20);
        for (const char* path :
             {"run.sh", "bin/quantoscope-cuda.so", "golden/input/normal.f32", "models/llama/config.json"})
            QVERIFY2(QFileInfo(package() + path).isFile(), path);
    }

    void only_glibc_is_the_machines() {
        static const QRegularExpression carried("/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*)\\.so");
        for (const char* program : {"quantoscope-cli", "gpu_module", "gpu_parity", "gpu_algebra", "gpu_model"}) {
            const Outcome outcome =
                run(package() + "bin/" + program, {program[0] == 'q' ? "devices" : "-functions"}, {"LD_DEBUG=libs"});
            QCOMPARE(outcome.status, 0);
            int initialised = 0;
            for (const QString& line : outcome.text.split('\n')) {
                const qsizetype at = line.indexOf("calling init: ");
                if (at < 0)
                    continue;
                ++initialised;
                const QString path = QFileInfo(line.mid(at + 14)).canonicalFilePath();
                QVERIFY2(path.startsWith(QFileInfo(package()).canonicalFilePath()) || path.contains(carried),
                         qPrintable(path));
            }
            QVERIFY2(initialised > 3, qPrintable(outcome.text));
        }
    }

    void runs_and_skips_without_a_gpu() {
        const Outcome outcome = run(package() + "run.sh", {});
        QVERIFY2(outcome.status == 0, qPrintable(outcome.text));
        for (const char* line :
             {"devices: passed", "in part skipped: ", "parity: skipped: ", "algebra: skipped: ", "model: skipped: ",
              "memcheck: skipped: ", "racecheck: skipped: ", "bench: skipped: ", "no GPU was used: ", "nothing failed"})
            QVERIFY2(outcome.text.contains(line), qPrintable(outcome.text));
        for (const char* step : {"devices", "module", "parity", "algebra", "model"})
            QVERIFY2(QFileInfo(package() + "results/" + step + ".txt").size() > 0, step);
        QVERIFY(!outcome.text.contains("is not installed"));
    }

    void a_failure_is_told() {
        QFile::remove(package() + "bin/gpu_algebra");
        const Outcome outcome = run(package() + "run.sh", {"devices", "algebra"});
        QCOMPARE(outcome.status, 1);
        QVERIFY2(outcome.text.contains("algebra: FAILED"), qPrintable(outcome.text));
        QVERIFY(!outcome.text.contains("module: "));
        QCOMPARE(run(package() + "run.sh", {"nonsense"}).status, 2);
    }

private:
    struct Outcome {
        int status;
        QString text;
    };

    QString package() const { return folder_.filePath("gpu-package/"); }

    Outcome run(const QString& program, const QStringList& arguments, const QStringList& environment = {}) const {
        QProcess process;
        process.setWorkingDirectory("/");
        process.setEnvironment(QStringList{"PATH=/usr/bin:/bin", "CUDA_VISIBLE_DEVICES="} + environment);
        process.setProcessChannelMode(QProcess::MergedChannels);
        process.start(program, arguments);
        process.waitForFinished(-1);
        return {process.exitStatus() == QProcess::NormalExit ? process.exitCode() : -1,
                QString::fromUtf8(process.readAll())};
    }

    QTemporaryDir folder_;
};

QTEST_GUILESS_MAIN(PackageTest)
#include "package_test.moc"
