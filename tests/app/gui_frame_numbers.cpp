#include <QTest>

#include <cmath>
#include <limits>

#include "app/gui/Numbers.h"

using namespace qs::gui;

class GuiNumbersTest : public QObject {
    Q_OBJECT

private slots:
    void threeSignificantDigits_data() {
        QTest::addColumn<double>("value");
        QTest::addColumn<QString>("text");
        QTest::newRow("zero") << 0.0 << "0";
        QTest::newRow("one") << 1.0 << "1.00";
        QTest::newRow("rounds up into the next decade") << 9.996 << "10.0";
        QTest::newRow("small") << 0.0012345 << "0.00123";
        QTest::newRow("power of ten") << 8.2e-6 << "8.20·10⁻⁶";
        QTest::newRow("negative") << -3.14159 << "−3.14";
        QTest::newRow("thousands") << 12345.0 << "12\u2009300";
        QTest::newRow("large") << 1.2345e12 << "1.23·10¹²";
        QTest::newRow("infinite") << -std::numeric_limits<double>::infinity() << "−∞";
        QTest::newRow("not a number") << std::nan("") << "NaN";
    }
    void threeSignificantDigits() {
        QFETCH(double, value);
        QTEST(significant(value), "text");
    }

    void unitsHaveThinSpaces() {
        QCOMPARE(bytes(13.5e9), QString("13.5\u2009GB"));
        QCOMPARE(bytes(999), QString("999\u2009B"));
        QCOMPARE(bytes(999'999), QString("1.00\u2009MB"));
        QCOMPARE(si(11.8e9, "B/s"), QString("11.8\u2009GB/s"));
        QCOMPARE(si(0.0021, "s"), QString("2.10\u2009ms"));
        QCOMPARE(count(9999), QString("9999"));
        QCOMPARE(count(6.738e9), QString("6.74\u2009B"));
        QCOMPARE(count(32'000), QString("32.0\u2009k"));
        QCOMPARE(percent(0.0027), QString("0.270\u2009%"));
    }

    void durations() {
        QCOMPARE(duration(0.84), QString("0.8\u2009s"));
        QCOMPARE(duration(59.4), QString("59\u2009s"));
        QCOMPARE(duration(125), QString("2\u2009min 05\u2009s"));
        QCOMPARE(duration(3725), QString("1\u2009h 02\u2009min"));
    }

    void fullReadsBackTheSame() {
        for (const double value : {0.1, 1.0 / 3, 6.02214076e23, -4.9e-324})
            QCOMPARE(full(value).toDouble(), value);
    }
};

QTEST_GUILESS_MAIN(GuiNumbersTest)
#include "gui_frame_numbers.moc"
