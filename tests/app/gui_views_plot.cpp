#include <QAction>
#include <QClipboard>
#include <QFile>
#include <QGuiApplication>
#include <QMenu>
#include <QPushButton>
#include <QSignalSpy>
#include <QXmlStreamReader>

#include "app/gui/plot/Theme.h"
#include "app/gui/views/HistogramView.h"
#include "app/gui/views/LayersView.h"
#include "gui_views_common.h"

using namespace qs;
using namespace qs::gui;

/// What all views share: ticks, zoom, legend, readout, export, themes, empty state.
class PlotTest : public QObject {
    Q_OBJECT

private slots:
    void ticksAreRoundAndAtMostEight_data();
    void ticksAreRoundAndAtMostEight();
    void keysZoomAndPan();
    void wheelZoomsAboutTheCursor();
    void dragPans();
    void exportsPictures();
    void exportsData();
    void refusesWhatItCannotWrite();
    void copiesData();
    void followsTheTheme();
    void emptyStateHelps();

private:
    static QCPAxis* line(Plot& plot, double low, double high, bool log = false);
};

QCPAxis* PlotTest::line(Plot& plot, double low, double high, bool log) {
    QCPAxisRect* pane = plot.addPane(1);
    QCPAxis* x = pane->axis(QCPAxis::atBottom);
    plot.nameAxis(x, "weight");
    plot.nameAxis(pane->axis(QCPAxis::atLeft), "count");
    plot.setLog(x, log);
    plot.setHome(x, QCPRange(low, high));
    plot.goHome();
    plot.resize(700, 400);
    plot.show();
    plot.replot();
    return x;
}

void PlotTest::ticksAreRoundAndAtMostEight_data() {
    QTest::addColumn<double>("low");
    QTest::addColumn<double>("high");
    QTest::addColumn<bool>("log");
    QTest::newRow("unit") << 0.0 << 1.0 << false;
    QTest::newRow("weights") << -0.0731 << 0.0688 << false;
    QTest::newRow("tiny") << -3.1e-7 << 2.9e-7 << false;
    QTest::newRow("counts") << 0.0 << 1.7e6 << false;
    QTest::newRow("offset") << 1000.2 << 1000.9 << false;
    QTest::newRow("decades") << 1e-9 << 1e3 << true;
    QTest::newRow("many decades") << 1e-30 << 1e30 << true;
    QTest::newRow("one decade") << 3.0 << 40.0 << true;
    QTest::newRow("less than a decade") << 20.0 << 45.0 << true;
}

void PlotTest::ticksAreRoundAndAtMostEight() {
    QFETCH(double, low);
    QFETCH(double, high);
    QFETCH(bool, log);
    Plot plot;
    const QCPAxis* axis = line(plot, low, high, log);
    QVector<double> inside;
    for (const double tick : axis->tickVector())
        if (axis->range().contains(tick))
            inside << tick;
    QVERIFY2(inside.size() >= 2 && inside.size() <= 9, qPrintable(QString::number(inside.size())));
    QSet<QString> names;
    for (const QString& name : axis->tickVectorLabels())
        names << name;
    QCOMPARE(names.size(), axis->tickVectorLabels().size());
    for (int i = 2; i < inside.size() && !log; ++i)
        QVERIFY(qAbs((inside[i] - inside[i - 1]) - (inside[1] - inside[0])) < 1e-6 * (high - low));
}

void PlotTest::keysZoomAndPan() {
    Plot plot;
    const QCPAxis* axis = line(plot, 0, 10);
    QTest::keyClick(&plot, Qt::Key_Plus);
    QCOMPARE(axis->range().size(), 8.0);
    QCOMPARE(axis->range().center(), 5.0);
    QTest::keyClick(&plot, Qt::Key_Right);
    QCOMPARE(axis->range().center(), 5.8);
    QTest::keyClick(&plot, Qt::Key_Left);
    QTest::keyClick(&plot, Qt::Key_Minus);
    QCOMPARE(axis->range().size(), 10.0);
    QTest::keyClick(&plot, Qt::Key_Plus);
    QTest::keyClick(&plot, Qt::Key_Home);
    QCOMPARE(axis->range(), QCPRange(0, 10));
    for (int i = 0; i < 50; ++i)
        QTest::keyClick(&plot, Qt::Key_Minus);
    QVERIFY(axis->range().size() < 12);
}

void PlotTest::wheelZoomsAboutTheCursor() {
    Plot plot;
    const QCPAxis* axis = line(plot, 0, 10);
    const QPoint at(static_cast<int>(axis->coordToPixel(2)), 150);
    const double before = axis->pixelToCoord(at.x());
    turnWheel(plot, at, 3);
    QVERIFY(axis->range().size() < 7);
    QVERIFY(qAbs(axis->pixelToCoord(at.x()) - before) < 1e-9);
}

void PlotTest::dragPans() {
    Plot plot;
    const QCPAxis* axis = line(plot, 0, 10);
    QTest::keyClick(&plot, Qt::Key_Plus);
    QTest::keyClick(&plot, Qt::Key_Plus);
    const QCPRange before = axis->range();
    const QPoint from(static_cast<int>(axis->coordToPixel(5)), 150), to(from.x() + 60, 150);
    QTest::mousePress(&plot, Qt::LeftButton, {}, from);
    moveMouse(plot, from + QPoint(10, 0), Qt::LeftButton);
    moveMouse(plot, to, Qt::LeftButton);
    QTest::mouseRelease(&plot, Qt::LeftButton, {}, to);
    QVERIFY(axis->range().lower < before.lower);
    QVERIFY(qAbs(axis->range().size() - before.size()) < 1e-9);
}

void PlotTest::exportsPictures() {
    OpenSession open("nf4,int8");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    QString error;

    const QString png = open.folder.filePath("plot.png");
    QVERIFY2(view.exportTo(png, &error), qPrintable(error));
    const QImage picture(png);
    QCOMPARE(picture.size(), 2 * view.activePlot()->size());
    QCOMPARE(picture.pixelColor(2, 2), Theme::instance().background());

    const QString svg = open.folder.filePath("plot.svg");
    QVERIFY2(view.exportTo(svg, &error), qPrintable(error));
    QFile file(svg);
    QVERIFY(file.open(QIODevice::ReadOnly));
    QXmlStreamReader xml(&file);
    QStringList texts;
    while (!xml.atEnd())
        if (xml.readNext() == QXmlStreamReader::StartElement && xml.name() == QStringLiteral("text"))
            texts << xml.readElementText().trimmed();
    QVERIFY2(!xml.hasError(), qPrintable(xml.errorString()));
    for (const char* name : {"weight", "weights per bin", "nf4", "fitted normal"})
        QVERIFY2(texts.contains(name), name);

    const QString pdf = open.folder.filePath("plot.pdf");
    QVERIFY2(view.exportTo(pdf, &error), qPrintable(error));
    QFile document(pdf);
    QVERIFY(document.open(QIODevice::ReadOnly));
    const QByteArray bytes = document.readAll();
    QVERIFY(bytes.startsWith("%PDF-"));
    QVERIFY(bytes.trimmed().endsWith("%%EOF"));
}

void PlotTest::exportsData() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    QString error;
    const QString path = open.folder.filePath("plot.csv");
    QVERIFY2(view.exportTo(path, &error), qPrintable(error));
    QFile file(path);
    QVERIFY(file.open(QIODevice::ReadOnly));
    QCOMPARE(file.readAll(), view.csv());
}

void PlotTest::refusesWhatItCannotWrite() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    QString error;
    QVERIFY(!view.exportTo(open.folder.filePath("plot.docx"), &error));
    QVERIFY(error.contains(".png"));
    error.clear();
    const QString nowhere = open.folder.filePath("no such folder/plot.png");
    QVERIFY(!view.exportTo(nowhere, &error));
    QVERIFY(!error.isEmpty());
    QVERIFY(!QFile::exists(nowhere));
}

void PlotTest::copiesData() {
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    QMenu* menu = view.activePlot()->makeContextMenu();
    QStringList names;
    QAction* copy = nullptr;
    for (QAction* action : menu->actions()) {
        names << action->text();
        if (action->text() == "Copy data")
            copy = action;
    }
    for (const char* name :
         {"Copy picture", "Copy data", "Export PNG (2×)…", "Export SVG…", "Export PDF…", "Export CSV…"})
        QVERIFY2(names.contains(name), name);
    copy->trigger();
    QCOMPARE(QGuiApplication::clipboard()->text().toUtf8(), view.csv());
    delete menu;
}

void PlotTest::followsTheTheme() {
    Theme::instance().setMode(Theme::Mode::light);
    OpenSession open("nf4");
    HistogramView view(&open.session);
    QVERIFY(showAndSettle(view));
    const auto corner = [&] { return view.activePlot()->grab().toImage().pixelColor(2, 2); };
    QCOMPARE(corner(), QColor(0xff, 0xff, 0xff));
    const QColor before = graphNamed(view.activePlot()->axisRects().front(), "nf4")->pen().color();
    Theme::instance().setMode(Theme::Mode::dark);
    QVERIFY(settle(view));
    QCOMPARE(corner(), QColor(0x16, 0x19, 0x1d));
    const QCPGraph* graph = graphNamed(view.activePlot()->axisRects().front(), "nf4");
    QCOMPARE(graph->pen().color(), Theme::instance().format(parse_spec("nf4")));
    QVERIFY(graph->pen().color() != before);
    QCOMPARE(graph->keyAxis()->labelColor(), Theme::instance().text());
    Theme::instance().setMode(Theme::Mode::light);
}

void PlotTest::emptyStateHelps() {
    Session session;
    HistogramView view(&session);
    view.show();
    QVERIFY(settle(view));
    QPushButton* button = nullptr;
    for (QPushButton* candidate : view.findChildren<QPushButton*>())
        if (candidate->isVisible())
            button = candidate;
    QVERIFY(button != nullptr);
    QVERIFY(!view.activePlot()->isVisible());
    QSignalSpy asked(&view, &View::openRequested);
    QTest::mouseClick(button, Qt::LeftButton);
    QCOMPARE(asked.count(), 1);
}

QTEST_MAIN(PlotTest)
#include "gui_views_plot.moc"
