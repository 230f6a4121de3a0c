#include <QTest>

#include <cmath>

#include "core/analysis/throughput.h"

using namespace qs;

class TestThroughput : public QObject {
    Q_OBJECT
private slots:
    void of_a_run() {
        const Throughput run{.done = 4e9, .total = 10e9, .weights = 5e9, .seconds = 2, .bytes_per_second = 2e9};
        QCOMPARE(run.weights_per_second(), 1e9);
        QCOMPARE(run.seconds_left(), 3.0);
        QCOMPARE(run.share_of(8), 0.25);
    }

    void where_nothing_is_known() {
        const Throughput nothing;
        QCOMPARE(nothing.weights_per_second(), 0.0);
        QCOMPARE(nothing.seconds_left(), 0.0);
        QVERIFY(std::isnan(nothing.share_of(8)));
        Throughput run;
        run.bytes_per_second = 1e9;
        QVERIFY(std::isnan(run.share_of(0)));
        QCOMPARE(mean_rate(5, 0), 0.0);
        QCOMPARE(mean_rate(6, 2), 3.0);
    }

    void recent_rate_forgets() {
        RecentRate rate;
        QCOMPARE(rate.bytes_per_second(), 0.0);
        rate.sample(0, 0);
        QCOMPARE(rate.bytes_per_second(), 0.0);
        double bytes = 0;
        for (int second = 1; second <= 10; ++second)
            rate.sample(second, bytes += 100);
        QCOMPARE(rate.bytes_per_second(), 100.0);
        rate.sample(11, bytes += 700); // three of the last three seconds, 100, 100 and 700
        QCOMPARE(rate.bytes_per_second(), 300.0);
        for (int second = 12; second <= 16; ++second)
            rate.sample(second, bytes += 700);
        QCOMPARE(rate.bytes_per_second(), 700.0);
    }

    void a_pause_longer_than_the_window_counts() {
        RecentRate rate;
        rate.sample(0, 0);
        rate.sample(10, 100);
        rate.sample(20, 300);
        QCOMPARE(rate.bytes_per_second(), 20.0);
    }
};

QTEST_APPLESS_MAIN(TestThroughput)
#include "test_throughput.moc"
