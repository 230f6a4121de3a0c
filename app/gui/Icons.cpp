#include "app/gui/Icons.h"

#include <QFile>
#include <QIconEngine>
#include <QPainter>
#include <QSvgRenderer>

#include "app/gui/plot/Theme.h"

/// Resources of a static library are registered by hand; the macro wants the global namespace.
static void register_icons() {
    Q_INIT_RESOURCE(icons);
}

namespace qs::gui {

namespace {

/// Asks the theme for its colour whenever it paints, so that icons follow a change of theme.
class ThemedIcon : public QIconEngine {
public:
    explicit ThemedIcon(QByteArray svg) : svg_(std::move(svg)) {}

    void paint(QPainter* painter, const QRect& rect, QIcon::Mode mode, QIcon::State) override {
        const Theme& theme = Theme::instance();
        QByteArray coloured = svg_;
        coloured.replace("currentColor", theme.text().name().toUtf8());
        QSvgRenderer renderer(coloured);
        painter->save();
        painter->setOpacity(mode == QIcon::Disabled ? 0.35 : 1);
        renderer.render(painter, rect);
        painter->restore();
    }
    QPixmap pixmap(const QSize& size, QIcon::Mode mode, QIcon::State state) override {
        QPixmap pixmap(size);
        if (size.isEmpty())
            return pixmap;
        pixmap.fill(Qt::transparent);
        QPainter painter(&pixmap);
        paint(&painter, QRect(QPoint(), size), mode, state);
        return pixmap;
    }
    QIconEngine* clone() const override { return new ThemedIcon(svg_); }

private:
    QByteArray svg_;
};

} // namespace

QIcon icon(const QString& name) {
    register_icons();
    QFile file(":/icons/" + name + ".svg");
    if (!file.open(QIODevice::ReadOnly))
        return {};
    return QIcon(new ThemedIcon(file.readAll()));
}

QIcon swatch(const QColor& colour) {
    QPixmap pixmap(12, 12);
    pixmap.fill(colour);
    QIcon icon(pixmap);
    icon.addPixmap(pixmap, QIcon::Selected);
    return icon;
}

QIcon applicationIcon() {
    register_icons();
    return QIcon(":/icons/quantoscope.svg");
}

} // namespace qs::gui
