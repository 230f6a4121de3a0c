#include <QDoubleSpinBox>
#include <QLabel>

#include "app/gui/views/BinsView.h"
#include "gui_views_common.h"

using namespace qs;
using namespace qs::gui;

class BinsTest : public QObject {
    Q_OBJECT

private slots:
    void lanesAreTheMeasuredBins();
    void densityIsTheMeasuredPositions();
    void formatsWithoutCodebookGetANote();
    void markerIsDraggedAcrossAllLanes();
    void markerIsTyped();
    void clickOnALaneSelectsItsFormat();
    void readoutTellsTheBin();
    void csvHoldsEveryLevel();
    void manyLevelsStayReadable();
    void lanesFollowTheFormats();

private:
    static QString reading(const CodebookLane& lane, double value);
};

QString BinsTest::reading(const CodebookLane& lane, double value) {
    const Probe found = probe(lane.report().codebook, value);
    return QStringLiteral("code %1 ").arg(found.code);
}

void BinsTest::lanesAreTheMeasuredBins() {
    OpenSession open("nf4,int4,int8");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(view.lanes().size(), std::size_t{3});
    for (std::size_t i = 0; i < 3; ++i) {
        JobControl job;
        const auto expected = measure_bins(open.view(), open.session.formats()[i], job);
        QVERIFY(expected);
        const BinsReport& shown = view.lanes()[i]->report();
        QCOMPARE(shown.usage, expected->usage);
        QCOMPARE(shown.error, expected->error);
        QCOMPARE(shown.entropy, expected->entropy);
        QCOMPARE(shown.levels_used, expected->levels_used);
        QVERIFY(view.heading(i).contains(
            QStringLiteral("%1 of %2 levels").arg(expected->levels_used).arg(expected->codebook.levels.size())));
        double shares = 0, errors = 0;
        for (std::size_t level = 0; level < shown.usage.size(); ++level) {
            shares += view.lanes()[i]->weightShare(level);
            errors += view.lanes()[i]->errorShare(level);
        }
        QVERIFY(qAbs(shares - 1) < 1e-12 && qAbs(errors - 1) < 1e-9);
    }
}

void BinsTest::densityIsTheMeasuredPositions() {
    OpenSession open("nf4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    const Histogram& positions = view.lanes().front()->report().positions;
    const QCPGraph* density = view.activePlot()->axisRects().front()->graphs().front();
    double sum = 0;
    for (int i = 0; i < density->dataCount() - 1; ++i)
        sum += density->data()->at(i)->value;
    QVERIFY(qAbs(sum - 100) < 1e-9);
    QCOMPARE(density->data()->at(0)->key, positions.low);
    QCOMPARE(density->data()->at(density->dataCount() - 1)->key, positions.high);
    // The first plotted bin holds the first measured ones.
    const double end = density->data()->at(1)->key;
    double total = 0, first = 0;
    for (std::size_t i = 0; i < positions.counts.size(); ++i) {
        total += static_cast<double>(positions.counts[i]);
        if (positions.edge(i + 1) <= end + 1e-12)
            first += static_cast<double>(positions.counts[i]);
    }
    QVERIFY(qAbs(density->data()->at(0)->value - 100 * first / total) < 1e-9);
}

void BinsTest::formatsWithoutCodebookGetANote() {
    OpenSession open("bf16,nf4,fp16");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(view.lanes().size(), std::size_t{1});
    const auto* note = view.findChild<QLabel*>("binsNote");
    QVERIFY(note->isVisible());
    QVERIFY(note->text().contains("bf16, fp16"));
    open.session.setFormats(parse_specs("nf4"));
    QVERIFY(settle(view));
    QVERIFY(!note->isVisible());
}

void BinsTest::markerIsDraggedAcrossAllLanes() {
    OpenSession open("nf4,int4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    Plot* plot = view.activePlot();
    const QCPAxisRect* pane = plot->axisRects().front();
    const QCPAxis* axis = pane->axis(QCPAxis::atBottom);
    const QCPRange range = axis->range();
    const QPoint from(static_cast<int>(std::lround(axis->coordToPixel(view.marker()))), pane->center().y());
    const QPoint to(static_cast<int>(std::lround(axis->coordToPixel(-0.6))), from.y());
    QTest::mousePress(plot, Qt::LeftButton, {}, from);
    moveMouse(*plot, (from + to) / 2, Qt::LeftButton);
    moveMouse(*plot, to, Qt::LeftButton);
    QTest::mouseRelease(plot, Qt::LeftButton, {}, to);
    QCOMPARE(axis->range(), range);
    QVERIFY(qAbs(view.marker() + 0.6) < 0.01);
    for (std::size_t lane = 0; lane < 2; ++lane)
        QVERIFY2(view.reading(lane).startsWith(reading(*view.lanes()[lane], view.marker())),
                 qPrintable(view.reading(lane)));
    // At −0.6 NF4 has the level −0.525 with code 2 (its boundary below is −0.6106).
    QVERIFY(view.reading(0).startsWith("code 2 "));
    QVERIFY(view.heading(0).contains(view.reading(0)));
}

void BinsTest::markerIsTyped() {
    OpenSession open("nf4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    auto* field = view.findChild<QDoubleSpinBox*>("markerValue");
    field->setFocus();
    field->selectAll();
    QTest::keyClicks(field, "1");
    QTest::keyClick(field, Qt::Key_Return);
    QCOMPARE(view.marker(), 1.0);
    QCOMPARE(view.activePlot()->marker().value(), 1.0);
    QVERIFY(view.reading(0).startsWith("code 15 · level 1.00 · error 0"));
}

void BinsTest::clickOnALaneSelectsItsFormat() {
    OpenSession open("nf4,int4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    QCOMPARE(open.session.selectedFormat(), std::size_t{0});
    const QCPAxisRect* lane = view.lanes()[1]->keyAxis()->axisRect();
    QTest::mouseClick(view.activePlot(), Qt::LeftButton, {}, QPoint(lane->left() + 20, lane->center().y()));
    QCOMPARE(open.session.selectedFormat(), std::size_t{1});
}

void BinsTest::readoutTellsTheBin() {
    OpenSession open("nf4,int4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    const CodebookLane* lane = view.lanes().front();
    const QCPAxisRect* pane = lane->keyAxis()->axisRect();
    moveMouse(*view.activePlot(), QPoint(static_cast<int>(lane->keyAxis()->coordToPixel(0.01)), pane->center().y()));
    const QString text = view.activePlot()->readout().plainText();
    QVERIFY2(text.contains("nf4: code 7, level 0"), qPrintable(text));
    QVERIFY(text.contains("of the error"));
    QVERIFY(text.contains("int4"));
}

void BinsTest::csvHoldsEveryLevel() {
    OpenSession open("nf4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    const QList<QByteArray> lines = view.csv().trimmed().split('\n');
    QCOMPARE(lines.front(), QByteArray("format,code,level,bin_low,bin_high,weights,squared_error"));
    QCOMPARE(lines.size(), 17);
    const BinsReport& report = view.lanes().front()->report();
    for (std::size_t i = 0; i < 16; ++i) {
        const QList<QByteArray> cells = lines[static_cast<qsizetype>(i) + 1].split(',');
        QCOMPARE(cells[1].toUInt(), report.codebook.levels[i].code);
        QCOMPARE(cells[2].toDouble(), report.codebook.levels[i].value);
        QCOMPARE(cells[5].toULongLong(), report.usage[i]);
        QCOMPARE(cells[6].toDouble(), report.error[i]);
    }
}

/// In a lane of 256 levels there is still background to be seen above the fills, and fills to be seen at all.
void BinsTest::manyLevelsStayReadable() {
    OpenSession open("int8,fp8_e4m3");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    const QImage picture = view.activePlot()->grab().toImage();
    for (const CodebookLane* lane : view.lanes()) {
        const QRect room = lane->keyAxis()->axisRect()->rect();
        int ground = 0, coloured = 0;
        for (int y = room.top(); y <= room.bottom(); ++y)
            for (int x = room.left(); x <= room.right(); ++x) {
                const QColor pixel = picture.pixelColor(x, y);
                (pixel.saturation() > 60 ? coloured : ground) += 1;
            }
        QVERIFY(coloured * 50 > room.width() * room.height());
        QVERIFY(ground * 4 > room.width() * room.height());
    }
}

void BinsTest::lanesFollowTheFormats() {
    OpenSession open("nf4");
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    open.session.setFormats(parse_specs("fp4,nf4,q4_0"));
    QVERIFY(settle(view));
    QCOMPARE(view.lanes().size(), std::size_t{3});
    QVERIFY(view.heading(0).startsWith("fp4"));
    open.select("model.embed_tokens.weight");
    QVERIFY(settle(view));
    std::uint64_t total = 0;
    for (const std::uint64_t count : view.lanes().front()->report().usage)
        total += count;
    QCOMPARE(total, open.selected().elements());
}

QTEST_MAIN(BinsTest)
#include "gui_views_bins.moc"
