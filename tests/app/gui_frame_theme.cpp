#include <QApplication>
#include <QPalette>
#include <QTest>

#include <cmath>

#include "app/gui/plot/Theme.h"
#include "core/formats/registry.h"

using namespace qs;
using namespace qs::gui;

namespace {

double linear(double c) {
    return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
}

double luminance(const QColor& c) {
    return 0.2126 * linear(c.redF()) + 0.7152 * linear(c.greenF()) + 0.0722 * linear(c.blueF());
}

/// WCAG 2 contrast ratio.
double contrast(const QColor& a, const QColor& b) {
    const double x = luminance(a) + 0.05, y = luminance(b) + 0.05;
    return std::max(x, y) / std::min(x, y);
}

/// Distance in CIE 1976 L*a*b*, D65.
double distance(const QColor& a, const QColor& b) {
    const auto lab = [](const QColor& c) {
        const double r = linear(c.redF()), g = linear(c.greenF()), bl = linear(c.blueF());
        const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
        const double x = f((0.4124 * r + 0.3576 * g + 0.1805 * bl) / 0.9505);
        const double y = f(0.2126 * r + 0.7152 * g + 0.0722 * bl);
        const double z = f((0.0193 * r + 0.1192 * g + 0.9505 * bl) / 1.089);
        return std::array{116 * y - 16, 500 * (x - y), 200 * (y - z)};
    };
    const auto p = lab(a), q = lab(b);
    return std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

} // namespace

class GuiThemeTest : public QObject {
    Q_OBJECT

private slots:
    void designColours() {
        Theme& theme = Theme::instance();
        theme.setMode(Theme::Mode::light);
        QCOMPARE(theme.background().name(), QString("#ffffff"));
        QCOMPARE(theme.panel().name(), QString("#f5f6f8"));
        QCOMPARE(theme.text().name(), QString("#1c2128"));
        QCOMPARE(theme.grid().name(), QString("#e3e6ea"));
        QCOMPARE(theme.original().name(), QString("#5b6470"));
        QCOMPARE(QApplication::palette().color(QPalette::Window), theme.panel());
        theme.setMode(Theme::Mode::dark);
        QVERIFY(theme.dark());
        QCOMPARE(theme.background().name(), QString("#16191d"));
        QCOMPARE(theme.panel().name(), QString("#1e2227"));
        QCOMPARE(theme.text().name(), QString("#e6e9ee"));
        QCOMPARE(theme.grid().name(), QString("#30363d"));
        QCOMPARE(theme.original().name(), QString("#b8c0cc"));
        QCOMPARE(QApplication::palette().color(QPalette::Window), theme.panel());
    }

    void textReadsOnEveryGround() {
        Theme& theme = Theme::instance();
        for (const auto mode : {Theme::Mode::light, Theme::Mode::dark}) {
            theme.setMode(mode);
            for (const QColor& ground : {theme.background(), theme.panel()})
                for (const QColor& ink : {theme.text(), theme.mutedText(), theme.accent()})
                    QVERIFY2(contrast(ink, ground) >= 4.5, qPrintable(ink.name() + " on " + ground.name()));
            QVERIFY(contrast(theme.background(), theme.accent()) >= 4.5);
        }
    }

    void everyFormatStandsOutFromThePlot() {
        Theme& theme = Theme::instance();
        for (const auto mode : {Theme::Mode::light, Theme::Mode::dark}) {
            theme.setMode(mode);
            for (const Format& entry : formats()) {
                const QColor colour = theme.format(parse_spec(entry.id));
                QVERIFY2(contrast(colour, theme.background()) >= 3,
                         qPrintable(QString::fromStdString(entry.id) + ' ' + colour.name()));
            }
        }
    }

    void defaultFormatsDifferClearly() {
        Theme& theme = Theme::instance();
        const auto specs = parse_specs("bf16,fp8_e4m3,int8,nf4,int4");
        for (const auto mode : {Theme::Mode::light, Theme::Mode::dark}) {
            theme.setMode(mode);
            for (std::size_t i = 0; i < specs.size(); ++i)
                for (std::size_t j = 0; j < i; ++j)
                    QVERIFY2(distance(theme.format(specs[i]), theme.format(specs[j])) > 15,
                             qPrintable(QString::fromStdString(specs[i].id + " and " + specs[j].id)));
        }
    }

    /// No two formats have one colour, and those that stand beside each other in lists differ clearly.
    void formatsOfAFamilyDiffer() {
        Theme& theme = Theme::instance();
        for (const auto mode : {Theme::Mode::light, Theme::Mode::dark}) {
            theme.setMode(mode);
            for (std::size_t i = 0; i < formats().size(); ++i)
                for (std::size_t j = 0; j < i; ++j) {
                    const Format &a = formats()[i], &b = formats()[j];
                    const double apart = distance(theme.format(parse_spec(a.id)), theme.format(parse_spec(b.id)));
                    const double least = a.family == b.family && i == j + 1 ? 10 : 4;
                    QVERIFY2(apart > least,
                             qPrintable(QString::fromStdString(a.id + " and " + b.id + ": ") + QString::number(apart)));
                }
        }
    }

    void parametersChangeTheShade() {
        const Theme& theme = Theme::instance();
        QVERIFY(theme.format(parse_spec("nf4")) != theme.format(parse_spec("nf4:block=128")));
    }

    void sequentialRisesInLightness() {
        double before = -1;
        for (int i = 0; i <= 20; ++i) {
            const double light = luminance(Theme::sequential(i / 20.0));
            QVERIFY(light > before);
            before = light;
        }
    }
};

QTEST_MAIN(GuiThemeTest)
#include "gui_frame_theme.moc"
