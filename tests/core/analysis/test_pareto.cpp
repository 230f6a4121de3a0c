#include <QTest>

#include <limits>

#include "core/analysis/pareto.h"

using namespace qs;

class Pareto : public QObject {
    Q_OBJECT

private slots:
    void keeps_what_nothing_beats() {
        const std::vector<Costs> choices{{8, 1}, {4, 3}, {4.5, 2}, {4.5, 2.5}, {2, 9}, {3, 9}, {5, 2}, {16, 1}};
        QCOMPARE(pareto_front(choices), (std::vector<std::size_t>{4, 1, 2, 0}));
    }

    void equal_ones_count_once() {
        const std::vector<Costs> choices{{4, 1}, {4, 1}, {4, 2}};
        QCOMPARE(pareto_front(choices), std::vector<std::size_t>{0});
    }

    void leaves_out_what_is_not_known() {
        constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
        const std::vector<Costs> choices{
            {unknown, 0}, {4, unknown}, {8, 1}, {2, std::numeric_limits<double>::infinity()}};
        QCOMPARE(pareto_front(choices), (std::vector<std::size_t>{3, 2}));
        QVERIFY(pareto_front({}).empty());
    }
};

QTEST_GUILESS_MAIN(Pareto)
#include "test_pareto.moc"
