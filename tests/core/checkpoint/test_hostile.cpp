#include <QDirIterator>
#include <QElapsedTimer>
#include <QFileInfo>
#include <QTest>

#include <sys/resource.h>

#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"

using namespace qs;

/// Malformed and malicious files are refused at once, by name, without a large allocation.
class HostileTest : public QObject {
    Q_OBJECT

private slots:
    void refused_data() {
        const QString folder = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/hostile");
        if (!QFileInfo::exists(folder))
            QSKIP("the folder of hostile files is absent");
        QTest::addColumn<QString>("path");
        QDirIterator it(folder, QDir::Files, QDirIterator::Subdirectories);
        while (it.hasNext()) {
            const QString path = it.next();
            QTest::newRow(qPrintable(path.mid(folder.size()))) << path;
        }
    }

    void refused() {
        QFETCH(QString, path);
        rusage before{}, after{};
        getrusage(RUSAGE_SELF, &before);
        QElapsedTimer timer;
        timer.start();
        bool opened = true;
        try {
            open_checkpoint(path.toStdString());
        } catch (const Error& error) {
            opened = false;
            const QString text = error.what();
            QVERIFY2(text.contains(QFileInfo(path).fileName()), error.what());
            QVERIFY2(!text.contains('\n') && text.size() < 800, error.what());
        }
        QVERIFY2(!opened, "was opened");
        QVERIFY(timer.elapsed() < 1000);
        getrusage(RUSAGE_SELF, &after);
        QVERIFY2(after.ru_maxrss - before.ru_maxrss < 64 * 1024, "took more than 64 MiB");
    }
};

QTEST_GUILESS_MAIN(HostileTest)
#include "test_hostile.moc"
