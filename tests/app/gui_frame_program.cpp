#include <QProcess>
#include <QTemporaryDir>
#include <QTest>

#include "gui_frame_files.h"

/// The real executable.
class GuiProgramTest : public QObject {
    Q_OBJECT

private:
    struct Ended {
        int status;
        QString out, err;
    };
    static Ended run(const QStringList& arguments) {
        QProcess process;
        process.start(QUANTOSCOPE_BIN_DIR "/quantoscope", arguments);
        if (!process.waitForFinished(20000))
            process.kill();
        return {process.exitStatus() == QProcess::NormalExit ? process.exitCode() : -1,
                QString::fromUtf8(process.readAllStandardOutput()), QString::fromUtf8(process.readAllStandardError())};
    }

private slots:
    void helpAndVersion() {
        const Ended help = run({"--help"});
        QCOMPARE(help.status, 0);
        QVERIFY(help.out.startsWith("Usage: quantoscope"));
        const Ended version = run({"--version"});
        QCOMPARE(version.status, 0);
        QVERIFY(version.out.startsWith("quantoscope "));
    }

    void wrongUsage() {
        const Ended option = run({"--frobnicate"});
        QCOMPARE(option.status, 2);
        QVERIFY(option.err.contains("error: unknown option --frobnicate"));
        QVERIFY(option.err.contains("Usage:"));
        QCOMPARE(run({"one.gguf", "two.gguf"}).status, 2);
    }

    void staysOpenOnACheckpointAndEndsWhenAsked() {
        QTemporaryDir folder;
        const QString path = folder.filePath("small.safetensors");
        writeSafetensors(path, decoder(2, 64));
        QProcess process;
        auto environment = QProcessEnvironment::systemEnvironment();
        environment.insert("XDG_CONFIG_HOME", folder.path());
        process.setProcessEnvironment(environment);
        process.start(QUANTOSCOPE_BIN_DIR "/quantoscope", {path});
        QVERIFY(process.waitForStarted());
        QVERIFY(!process.waitForFinished(1500));
        process.terminate();
        QVERIFY(process.waitForFinished(3000));
    }
};

QTEST_GUILESS_MAIN(GuiProgramTest)
#include "gui_frame_program.moc"
