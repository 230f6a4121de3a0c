#include "app/gui/plot/Theme.h"

#include <QApplication>
#include <QGuiApplication>
#include <QPalette>
#include <QStyleHints>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <string>

#include "core/formats/registry.h"

namespace qs::gui {

namespace {

/// sRGB of an Oklch colour (Björn Ottosson, "A perceptual color space for image processing", 2020); chroma is reduced
/// until the colour can be shown.
QColor oklch(double lightness, double chroma, double hue_degrees) {
    const double hue = hue_degrees * std::numbers::pi / 180;
    const auto to_srgb = [](double linear) {
        return linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1 / 2.4) - 0.055;
    };
    for (;; chroma *= 0.95) {
        const double a = chroma * std::cos(hue), b = chroma * std::sin(hue);
        const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
        const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
        const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
        const std::array linear = {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                                   -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                                   -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
        const bool shown = std::ranges::all_of(linear, [](double c) { return c >= -1e-4 && c <= 1.0001; });
        if (shown || chroma < 1e-3) {
            const auto channel = [&](double c) { return std::clamp(to_srgb(std::max(c, 0.0)), 0.0, 1.0); };
            return QColor::fromRgbF(static_cast<float>(channel(linear[0])), static_cast<float>(channel(linear[1])),
                                    static_cast<float>(channel(linear[2])));
        }
    }
}

/// A family's hues: from its deep members to its bright ones, around a colour of Okabe and Ito's palette
/// ("Color universal design", 2008).
struct Hues {
    double deep, bright, chroma;
    double deepest = 0.38; ///< lightness of the deepest member on white; dark orange would be brown
};

Hues hues(const std::string& family) {
    static const std::map<std::string, Hues> known = {
        {"float", {268, 236, 0.16}},        // blue #0072B2 to sky blue #56B4E9
        {"integer", {52, 92, 0.17, 0.53}},  // orange #E69F00
        {"bitsandbytes", {148, 170, 0.14}}, // bluish green #009E73
        {"ggml", {286, 350, 0.20}},         // reddish purple #CC79A7
        {"microscaling", {14, 42, 0.20}},   // vermilion #D55E00
    };
    const auto found = known.find(family);
    return found == known.end() ? Hues{100, 110, 0.1} : found->second;
}

/// Place `index` of `count` evenly spaced ones from 0 to 1, taken in an order in which neighbours lie far apart: that
/// of the fractions of index · step.
double spread(std::size_t index, std::size_t count, double step) {
    const auto fraction = [step](std::size_t i) { return std::fmod(static_cast<double>(i) * step, 1.0); };
    std::size_t before = 0;
    for (std::size_t i = 0; i < count; ++i)
        before += fraction(i) < fraction(index) ? 1 : 0;
    return count < 2 ? 0 : static_cast<double>(before) / static_cast<double>(count - 1);
}

/// Where a format stands among the shades of its family, each 0 (deep) to 1 (bright).
struct Shade {
    double lightness, hue;
};

Shade shade(const FormatSpec& spec) {
    const std::string& family = format(spec.id).family;
    std::size_t index = 0, count = 0;
    for (const Format& other : formats()) {
        if (other.family != family)
            continue;
        if (other.id == spec.id)
            index = count;
        ++count;
    }
    // Steps for which the least distance between the colours of a family, of up to some thirty formats, is large; found
    // by trying them.
    Shade shade{spread(index, count, 0.674), spread(index, count, 0.467)};
    // Other parameters of the same format: moved on by what its text says, so that they can be told apart.
    if (const std::string text = spec.text(); text != spec.id) {
        const int turns = 1 + std::accumulate(text.begin(), text.end(), 0) % 5;
        shade.lightness = std::fmod(shade.lightness + 0.37 * turns, 1.0);
    }
    return shade;
}

bool system_is_dark() {
#if QT_VERSION >= QT_VERSION_CHECK(6, 5, 0)
    const auto scheme = QGuiApplication::styleHints()->colorScheme();
    if (scheme != Qt::ColorScheme::Unknown)
        return scheme == Qt::ColorScheme::Dark;
#endif
    // The palette the platform gave, before this program set its own.
    static const QPalette platform = QGuiApplication::palette();
    return platform.color(QPalette::Window).lightness() < platform.color(QPalette::WindowText).lightness();
}

QString style_sheet(const Theme& theme) {
    const auto mixed = [](QColor under, QColor over, double share) {
        const auto part = [share](int a, int b) { return static_cast<int>(std::lround(a + share * (b - a))); };
        return QColor(part(under.red(), over.red()), part(under.green(), over.green()),
                      part(under.blue(), over.blue()));
    };
    QString sheet = QStringLiteral(R"(
QMainWindow::separator { background: @grid; width: 1px; height: 1px; }
QMainWindow::separator:hover { background: @accent; }
QMenuBar { background: @panel; border-bottom: 1px solid @grid; }
QMenuBar::item { padding: 4px 8px; background: transparent; }
QMenuBar::item:selected { background: @hover; }
QToolBar { background: @panel; border: none; border-bottom: 1px solid @grid; spacing: 6px; padding: 4px 6px; }
QToolBar::separator { background: @grid; width: 1px; margin: 3px 2px; }
QStatusBar { background: @panel; border-top: 1px solid @grid; }
QStatusBar::item { border: none; }
QToolTip { background: @panel; color: @text; border: 1px solid @border; padding: 3px 5px; }
QDockWidget { titlebar-close-icon: none; }
QDockWidget::title { background: @panel; padding: 5px 8px; border-bottom: 1px solid @grid; }
QTabWidget::pane { border: none; border-top: 1px solid @grid; }
QTabBar { background: @panel; }
QTabBar::tab { background: transparent; color: @muted; padding: 6px 14px; border: none;
    border-bottom: 2px solid transparent; }
QTabBar::tab:selected { color: @text; border-bottom: 2px solid @accent; }
QTabBar::tab:hover:!selected { color: @text; background: @hover; }
QTabBar::tab:focus { color: @accent; }
QToolButton { border: 1px solid transparent; border-radius: 4px; padding: 3px 6px; }
QToolButton[framed="true"] { border-color: @border; background: @background; }
QToolButton:hover { background: @hover; }
QToolButton:pressed, QToolButton:checked { background: @pressed; }
QToolButton[framed="true"]:checked { border-color: @accent; }
QToolButton:focus { border-color: @accent; }
QToolButton[popupMode="1"] { padding-right: 18px; }
QToolButton[popupMode="2"] { padding-right: 18px; }
QToolButton::menu-indicator { subcontrol-origin: padding; subcontrol-position: center right; right: 5px; }
QToolButton::menu-button { border: none; width: 16px; }
QTreeView, QTableView { background: @background; border: none; outline: none; }
QTreeView::item { padding: 2px 0; }
QHeaderView::section { background: @panel; color: @muted; padding: 3px 6px; border: none;
    border-bottom: 1px solid @grid; border-right: 1px solid @grid; }
QLineEdit { background: @background; border: 1px solid @border; border-radius: 4px; padding: 3px 6px; }
QLineEdit:focus { border-color: @accent; }
QProgressBar { background: @grid; border: none; border-radius: 3px; }
QProgressBar::chunk { background: @accent; border-radius: 3px; }
)");
    const auto name = [](QColor colour) { return colour.name(); };
    const std::array<std::pair<QString, QString>, 9> values = {{
        {"@background", name(theme.background())},
        {"@panel", name(theme.panel())},
        {"@text", name(theme.text())},
        {"@muted", name(theme.mutedText())},
        {"@grid", name(theme.grid())},
        {"@border", name(mixed(theme.grid(), theme.text(), 0.18))},
        {"@accent", name(theme.accent())},
        {"@hover", name(mixed(theme.panel(), theme.text(), 0.07))},
        {"@pressed", name(mixed(theme.panel(), theme.text(), 0.14))},
    }};
    for (const auto& [key, value] : values)
        sheet.replace(key, value);
    return sheet;
}

QPalette palette_of(const Theme& theme) {
    QPalette palette;
    const auto set = [&](QPalette::ColorRole role, QColor colour) { palette.setColor(role, colour); };
    set(QPalette::Window, theme.panel());
    set(QPalette::WindowText, theme.text());
    set(QPalette::Base, theme.background());
    set(QPalette::AlternateBase, theme.panel());
    set(QPalette::ToolTipBase, theme.panel());
    set(QPalette::ToolTipText, theme.text());
    set(QPalette::PlaceholderText, theme.mutedText());
    set(QPalette::Text, theme.text());
    set(QPalette::Button, theme.panel());
    set(QPalette::ButtonText, theme.text());
    set(QPalette::BrightText, theme.background());
    set(QPalette::Link, theme.accent());
    set(QPalette::Highlight, theme.accent());
    set(QPalette::HighlightedText, theme.background());
    set(QPalette::Light, theme.dark() ? theme.grid().lighter(130) : QColor(Qt::white));
    set(QPalette::Midlight, theme.grid());
    set(QPalette::Mid, theme.dark() ? theme.grid().lighter(120) : theme.grid().darker(115));
    set(QPalette::Dark, theme.dark() ? theme.background().darker(120) : theme.grid().darker(140));
    set(QPalette::Shadow, theme.dark() ? QColor(Qt::black) : theme.grid().darker(170));
    const QColor faint = theme.dark() ? QColor(0x6b7480) : QColor(0x959da8);
    for (const auto role : {QPalette::WindowText, QPalette::Text, QPalette::ButtonText})
        palette.setColor(QPalette::Disabled, role, faint);
    palette.setColor(QPalette::Disabled, QPalette::Highlight, theme.grid());
    return palette;
}

} // namespace

Theme& Theme::instance() {
    static Theme theme;
    return theme;
}

Theme::Theme() {
    if (qGuiApp == nullptr)
        return;
    dark_ = system_is_dark();
#if QT_VERSION >= QT_VERSION_CHECK(6, 5, 0)
    connect(QGuiApplication::styleHints(), &QStyleHints::colorSchemeChanged, this, [this] {
        if (mode_ == Mode::system)
            setMode(Mode::system);
    });
#endif
}

void Theme::setMode(Mode mode) {
    mode_ = mode;
    dark_ = mode == Mode::dark || (mode == Mode::system && system_is_dark());
    QApplication::setPalette(palette_of(*this));
    if (auto* application = qobject_cast<QApplication*>(QCoreApplication::instance()))
        application->setStyleSheet(style_sheet(*this));
    emit changed();
}

QColor Theme::background() const {
    return QColor(dark_ ? 0x16191d : 0xffffff);
}
QColor Theme::panel() const {
    return QColor(dark_ ? 0x1e2227 : 0xf5f6f8);
}
QColor Theme::text() const {
    return QColor(dark_ ? 0xe6e9ee : 0x1c2128);
}
QColor Theme::mutedText() const {
    return QColor(dark_ ? 0x9aa4b1 : 0x5b6470);
}
QColor Theme::grid() const {
    return QColor(dark_ ? 0x30363d : 0xe3e6ea);
}
QColor Theme::original() const {
    return QColor(dark_ ? 0xb8c0cc : 0x5b6470);
}
QColor Theme::accent() const {
    return QColor(dark_ ? 0x8fb4d9 : 0x35608c);
}

QColor Theme::format(const FormatSpec& spec) const {
    const Hues family = hues(qs::format(spec.id).family);
    const auto [t, u] = shade(spec);
    // Limits that keep 3 : 1 against both backgrounds, checked by a test for every format.
    const double lightness = dark_ ? 0.56 + 0.28 * t : family.deepest + (0.65 - family.deepest) * t;
    return oklch(lightness, family.chroma, family.deep + u * (family.bright - family.deep));
}

QColor Theme::sequential(double t) {
    // From deep violet over blue-green to yellow; lightness rises evenly, so that it reads in grey too.
    static const auto table = [] {
        std::array<QRgb, 256> colours;
        for (std::size_t i = 0; i < colours.size(); ++i) {
            const double u = static_cast<double>(i) / (colours.size() - 1);
            colours[i] = oklch(0.28 + 0.62 * u, 0.13 + 0.05 * std::sin(std::numbers::pi * u), 310 - 205 * u).rgb();
        }
        return colours;
    }();
    const double place = std::isnan(t) ? 0 : std::clamp(t, 0.0, 1.0) * (table.size() - 1);
    return QColor(table[static_cast<std::size_t>(std::lround(place))]);
}

} // namespace qs::gui
