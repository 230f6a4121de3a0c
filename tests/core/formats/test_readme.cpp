#include <QFile>
#include <QTest>

#include "core/formats/registry.h"

using namespace qs;

/// The README's table of formats is the registry's.
class ReadmeTest : public QObject {
    Q_OBJECT

private slots:
    void every_format_has_its_row() {
        QFile file(QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/../README.md"));
        QVERIFY(file.open(QIODevice::ReadOnly));
        const QString readme = QString::fromUtf8(file.readAll());
        const QString text = readme.section(QStringLiteral("\n## Formats\n"), 1).section(QStringLiteral("\n## "), 0, 0);
        qsizetype rows = 0;
        for (const QString& line : text.split('\n'))
            rows += line.startsWith("| `");
        QCOMPARE(rows, static_cast<qsizetype>(formats().size()));
        for (const Format& format : formats()) {
            const QString row = QStringLiteral("| `%1` | %2 | %3 |")
                                    .arg(format.id.c_str(), format.family.c_str())
                                    .arg(format.nominal_bits(parse_spec(format.id)), 0, 'f', 4);
            const qsizetype at = text.indexOf(row);
            QVERIFY2(at >= 0, qPrintable(row));
            const QString line = text.mid(at, text.indexOf('\n', at) - at);
            for (const FormatParameter& parameter : format.parameters)
                QVERIFY2(line.contains(QStringLiteral("`%1`").arg(parameter.name.c_str())), qPrintable(line));
            QVERIFY2(line.contains(format.bit_exact_with.empty() ? "–" : format.bit_exact_with.c_str()),
                     qPrintable(line));
        }
    }
};

QTEST_GUILESS_MAIN(ReadmeTest)
#include "test_readme.moc"
