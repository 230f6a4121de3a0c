#include <QComboBox>
#include <QDoubleSpinBox>
#include <QLabel>
#include <QScrollArea>
#include <QScrollBar>
#include <QSpinBox>

#include "app/gui/Numbers.h"
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
    void blockIsTheMeasuredBlock();
    void blockFollowsTheSelectedWeight();
    void blocksAreSteppedByKeyboard();
    void blockSaysScaleAndBits();
    void clickOnADotSelectsTheWeight();
    void blockReadoutAndCsv();
    void largeBlocksAreADensity();
    void manyLanesScroll();
    void everyFormatHasABlock();

private:
    static void showBlock(BinsView& view);
    static BlockBins measured(const OpenSession& open, const FormatSpec& spec, std::uint64_t element);
    static QString reading(const CodebookLane& lane, double value);
};

QString BinsTest::reading(const CodebookLane& lane, double value) {
    const Probe found = probe(lane.report().codebook, value);
    return QStringLiteral("code %1 ").arg(found.code);
}

/// As a user chooses it by keyboard.
void BinsTest::showBlock(BinsView& view) {
    auto* part = view.findChild<QComboBox*>("binsPart");
    QVERIFY(part->focusPolicy() & Qt::TabFocus);
    part->setFocus();
    QTest::keyClick(part, Qt::Key_Down);
    QVERIFY(view.showsBlock());
    QVERIFY(settle(view));
}

BlockBins BinsTest::measured(const OpenSession& open, const FormatSpec& spec, std::uint64_t element) {
    JobControl job;
    return measure_block_bins(open.view(), spec, element, job).value();
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

void BinsTest::blockIsTheMeasuredBlock() {
    OpenSession open("nf4,q4_K,bf16,q2_K,int8,fp8_e4m3", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    open.session.selectElement(1000);
    showBlock(view);
    QCOMPARE(view.lanes().size(), std::size_t{5});
    const std::vector<FormatSpec> specs = parse_specs("nf4,q4_K,q2_K,int8,fp8_e4m3");
    for (std::size_t i = 0; i < specs.size(); ++i) {
        const BlockBins expected = measured(open, specs[i], 1000);
        const BlockBins* shown = view.lanes()[i]->block().get();
        QVERIFY(shown != nullptr);
        QCOMPARE(shown->block, expected.block);
        QCOMPARE(shown->bins.usage, expected.bins.usage);
        QCOMPARE(shown->bins.error, expected.bins.error);
        QCOMPARE(shown->bins.codebook.boundaries, expected.bins.codebook.boundaries);
        QCOMPARE(shown->weights.size(), expected.weights.size());
        for (std::size_t j = 0; j < expected.weights.size(); ++j) {
            QCOMPARE(shown->weights[j].weight, expected.weights[j].weight);
            QCOMPARE(shown->weights[j].level, expected.weights[j].level);
        }
        QCOMPARE(&view.lanes()[i]->report(), &shown->bins);
    }
    // All weights of the small blocks are in sight.
    const QCPRange range = view.lanes().front()->keyAxis()->range();
    for (const std::size_t lane : {0, 1, 2})
        for (const BlockWeight& each : view.lanes()[lane]->block()->weights)
            QVERIFY(range.contains(each.weight));
    QVERIFY(view.findChild<QLabel*>("binsNote")->text().contains("bf16"));
}

void BinsTest::blockFollowsTheSelectedWeight() {
    OpenSession open("nf4,q4_K", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    const double before = view.marker();
    showBlock(view);
    QCOMPARE(view.lanes()[0]->block()->block.begin, std::uint64_t{0});
    open.session.selectElement(5000);
    QVERIFY(settle(view));
    QCOMPARE(view.lanes()[0]->block()->block, (LevelBlock{78, 4992, 5056}));
    QCOMPARE(view.lanes()[1]->block()->block, (LevelBlock{156, 4992, 5024}));
    QCOMPARE(view.findChild<QSpinBox*>("binsBlock")->value(), 78);

    // The marker stands on the weight, and each lane reads what became of it.
    const BlockWeight& weight = view.lanes()[0]->block()->weights[5000 - 4992];
    QCOMPARE(view.marker(), static_cast<double>(weight.weight));
    QCOMPARE(view.activePlot()->marker().value(), view.marker());
    const Level& level = view.lanes()[0]->report().codebook.levels[weight.level];
    QVERIFY(view.reading(0).startsWith(QStringLiteral("code %1 ").arg(level.code)));

    // What is shown stays until the new blocks are there, whatever is selected meanwhile.
    open.session.selectElement(20000);
    open.session.selectFormat(1);
    QCOMPARE(view.dots()->block()->block.begin, std::uint64_t{4992});
    QVERIFY(settle(view));
    QCOMPARE(view.dots()->block()->block.begin, std::uint64_t{20000});
    open.session.selectFormat(0);

    // Another tensor has no selected weight; the whole tensor has its marker back.
    open.select("model.layers.0.self_attn.k_proj.weight");
    QVERIFY(!open.session.selectedElement());
    QVERIFY(settle(view));
    QCOMPARE(view.lanes()[0]->block()->block.begin, std::uint64_t{0});
    view.findChild<QComboBox*>("binsPart")->setCurrentIndex(0);
    open.session.selectFormat(1);
    QVERIFY(settle(view));
    QVERIFY(view.lanes()[0]->block() == nullptr);
    QCOMPARE(view.marker(), before);
    QVERIFY(!view.findChild<QSpinBox*>("binsBlock")->isVisible());
}

void BinsTest::blocksAreSteppedByKeyboard() {
    OpenSession open("nf4,q4_K", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    showBlock(view);
    auto* number = view.findChild<QSpinBox*>("binsBlock");
    QVERIFY(number->isVisible());
    QVERIFY(number->focusPolicy() & Qt::TabFocus);
    const std::uint64_t elements = open.selected().elements();
    QCOMPARE(number->maximum(), static_cast<int>(elements / 64) - 1);
    number->setFocus();
    const CodebookLane* lane = view.lanes()[0];
    QTest::keyClick(number, Qt::Key_Up);
    QTest::keyClick(number, Qt::Key_Up);
    QVERIFY(settle(view));
    QCOMPARE(open.session.selectedElement(), std::optional<std::uint64_t>(128));
    QCOMPARE(view.lanes()[0], lane); // nothing was laid out anew
    QCOMPARE(lane->block()->block.index, std::uint64_t{2});

    // The numbers are those of the selected format's blocks.
    open.session.selectFormat(1);
    QCOMPARE(number->maximum(), static_cast<int>(elements / 32) - 1);
    QCOMPARE(number->value(), 4);
    number->selectAll();
    QTest::keyClicks(number, "33");
    QTest::keyClick(number, Qt::Key_Return);
    QVERIFY(settle(view));
    QCOMPARE(view.lanes()[1]->block()->block.begin, std::uint64_t{33 * 32});
    QCOMPARE(view.lanes()[0]->block()->block.begin, std::uint64_t{16 * 64});
}

void BinsTest::blockSaysScaleAndBits() {
    OpenSession open("q4_K,nf4", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    showBlock(view);
    const BlockBins affine = measured(open, parse_spec("q4_K"), 0);
    const QString heading = view.heading(0);
    QVERIFY2(heading.contains("weights 0 … 31 · block 0 of 2048"), qPrintable(heading));
    QVERIFY2(heading.contains(
                 QStringLiteral("scale %1, minimum %2").arg(significant(affine.step), significant(affine.lowest()))),
             qPrintable(heading));
    QVERIFY2(heading.contains("144 bits, 4.50 a weight"), qPrintable(heading));
    const BlockBins uneven = measured(open, parse_spec("nf4"), 0);
    QVERIFY(view.heading(1).contains(
        QStringLiteral("levels from %1 to %2").arg(significant(uneven.lowest()), significant(uneven.highest()))));
    QVERIFY(view.heading(1).contains("288 bits"));
}

void BinsTest::clickOnADotSelectsTheWeight() {
    OpenSession open("nf4,q4_K", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view, {900, 900}));
    showBlock(view);
    const BlockDots* dots = view.dots();
    QVERIFY(dots->visible());
    QCOMPARE(dots->block(), view.lanes()[0]->block().get());
    const QCPAxisRect* pane = dots->keyAxis()->axisRect();
    // The first place is on top.
    QVERIFY(dots->valueAxis()->coordToPixel(0) < dots->valueAxis()->coordToPixel(63));
    const QPoint at(pane->left() + 30, static_cast<int>(std::lround(dots->valueAxis()->coordToPixel(40))));
    moveMouse(*view.activePlot(), at);
    QVERIFY2(view.activePlot()->readout().plainText().startsWith("weight 40"),
             qPrintable(view.activePlot()->readout().plainText()));
    QTest::mouseClick(view.activePlot(), Qt::LeftButton, {}, at);
    QCOMPARE(open.session.selectedElement(), std::optional<std::uint64_t>(40));
    QVERIFY(settle(view));
    QCOMPARE(view.lanes()[1]->block()->block.begin, std::uint64_t{32});
}

void BinsTest::blockReadoutAndCsv() {
    OpenSession open("nf4,q4_K", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    open.session.selectElement(700);
    showBlock(view);
    const CodebookLane* lane = view.lanes()[0];
    const Level& level = lane->report().codebook.levels[5];
    const QCPAxisRect* pane = lane->keyAxis()->axisRect();
    moveMouse(*view.activePlot(),
              QPoint(static_cast<int>(std::lround(lane->keyAxis()->coordToPixel(level.value))), pane->center().y()));
    const QString text = view.activePlot()->readout().plainText();
    QVERIFY2(text.contains(QStringLiteral("nf4: code %1, level %2").arg(level.code).arg(significant(level.value))),
             qPrintable(text));

    const QList<QByteArray> lines = view.csv().trimmed().split('\n');
    QCOMPARE(lines.front(),
             QByteArray("format,first_weight,last_weight,code,level,bin_low,bin_high,weights,squared_error"));
    QCOMPARE(lines.size(), 1 + 16 + 16);
    const QList<QByteArray> cells = lines[6].split(',');
    QCOMPARE(cells[1].toULongLong(), 640ULL);
    QCOMPARE(cells[2].toULongLong(), 703ULL);
    QCOMPARE(cells[3].toUInt(), level.code);
    QCOMPARE(cells[4].toDouble(), level.value);
    QCOMPARE(cells[7].toULongLong(), lane->report().usage[5]);
}

/// A row or a tensor that shares a scale is no list of dots.
void BinsTest::largeBlocksAreADensity() {
    OpenSession open("fp8_e4m3,nf4", decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view));
    showBlock(view);
    QVERIFY(!view.dots()->visible());
    const QCPGraph* density = view.activePlot()->axisRects().front()->graphs().front();
    QVERIFY(density->visible());
    double sum = 0;
    for (int i = 0; i < density->dataCount() - 1; ++i)
        sum += density->data()->at(i)->value;
    QVERIFY(qAbs(sum - 100) < 1e-6);
    open.session.selectFormat(1);
    QVERIFY(view.dots()->visible() && !density->visible());
}

/// However many formats there are, each lane keeps its height and no two rows overlap.
void BinsTest::manyLanesScroll() {
    std::string all;
    for (const Format& entry : formats())
        if (entry.importance != Importance::required)
            all += (all.empty() ? "" : ",") + entry.id;
    OpenSession open(all, decoder(1, 256));
    BinsView view(&open.session);
    QVERIFY(showAndSettle(view, {520, 560}));
    for (const bool block : {false, true}) {
        if (block)
            showBlock(view);
        QVERIFY(view.activePlot()->height() > view.height());
        int bottom = 0;
        for (const QCPAxisRect* pane : view.activePlot()->axisRects()) {
            QVERIFY(pane->top() > bottom);
            bottom = pane->bottom();
        }
        for (const CodebookLane* lane : view.lanes())
            QVERIFY(lane->keyAxis()->axisRect()->height() >= 26);
    }
    // The wheel is left to what scrolls, and zooms with Ctrl.
    Plot& plot = *view.activePlot();
    const QCPAxis* axis = view.lanes()[0]->keyAxis();
    const QCPRange range = axis->range();
    const QPoint at = axis->axisRect()->center();
    const auto turn = [&](Qt::KeyboardModifiers modifiers) {
        QWheelEvent event(at, plot.mapToGlobal(at), {}, {0, -120}, Qt::NoButton, modifiers, Qt::NoScrollPhase, false);
        QCoreApplication::sendEvent(&plot, &event);
        return event.isAccepted();
    };
    QVERIFY(!turn(Qt::NoModifier));
    QCOMPARE(axis->range(), range);
    QVERIFY(turn(Qt::ControlModifier));
    QVERIFY(axis->range().size() > range.size());
    auto* scroll = view.findChild<QScrollArea*>()->verticalScrollBar();
    QCOMPARE(scroll->value(), 0);
    QTest::keyClick(&plot, Qt::Key_PageDown);
    QVERIFY(scroll->value() > 0);
}

/// Every format with a codebook in the registry, q8_0's 255 levels and ternary ones too.
void BinsTest::everyFormatHasABlock() {
    for (const Format& entry : formats()) {
        if (entry.importance == Importance::required)
            continue;
        OpenSession open(entry.id, decoder(1, 256));
        const bool leveled = bind_codec(parse_spec(entry.id), open.view().shape)->codebook().has_value();
        BinsView view(&open.session);
        QVERIFY(showAndSettle(view));
        showBlock(view);
        QCOMPARE(view.lanes().size(), leveled ? std::size_t{1} : std::size_t{0});
        if (leveled)
            QVERIFY2(view.heading(0).startsWith(QString::fromStdString(entry.id)), entry.id.c_str());
    }
}

QTEST_MAIN(BinsTest)
#include "gui_views_bins.moc"
