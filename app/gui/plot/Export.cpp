#include "app/gui/plot/Export.h"

#include <QBuffer>
#include <QLocale>
#include <QPageSize>
#include <QPdfWriter>
#include <QSaveFile>
#include <QSvgGenerator>

#include <cmath>

namespace qs::gui {

bool writeWhole(const QString& path, const QByteArray& data, QString* error) {
    QSaveFile file(path);
    const bool done = file.open(QIODevice::WriteOnly) && file.write(data) == data.size() && file.commit();
    if (!done && error)
        *error = file.errorString();
    return done;
}

QByteArray toPng(QCustomPlot& plot) {
    QByteArray data;
    QBuffer buffer(&data);
    buffer.open(QIODevice::WriteOnly);
    plot.toPixmap(plot.width(), plot.height(), 2.0).save(&buffer, "PNG");
    return data;
}

QByteArray toSvg(QCustomPlot& plot) {
    QByteArray data;
    QBuffer buffer(&data);
    QSvgGenerator svg;
    svg.setOutputDevice(&buffer);
    svg.setTitle(plot.accessibleName());
    svg.setSize(plot.size());
    svg.setViewBox(plot.rect());
    svg.setResolution(plot.logicalDpiX());
    QCPPainter painter(&svg);
    painter.setMode(QCPPainter::pmVectorized);
    plot.toPainter(&painter, plot.width(), plot.height());
    painter.end();
    return data;
}

QByteArray toPdf(QCustomPlot& plot) {
    QByteArray data;
    QBuffer buffer(&data);
    buffer.open(QIODevice::WriteOnly);
    QPdfWriter pdf(&buffer);
    pdf.setTitle(plot.accessibleName());
    pdf.setResolution(plot.logicalDpiX());
    const double points = 72.0 / plot.logicalDpiX();
    pdf.setPageSize(QPageSize(QSizeF(plot.width() * points, plot.height() * points), QPageSize::Point));
    pdf.setPageMargins(QMarginsF());
    QCPPainter painter(&pdf);
    painter.setMode(QCPPainter::pmVectorized);
    plot.toPainter(&painter, plot.width(), plot.height());
    painter.end();
    return data;
}

QByteArray csvText(const QString& text) {
    QString quoted = text;
    if (quoted.contains(',') || quoted.contains('"') || quoted.contains('\n'))
        quoted = '"' + quoted.replace('"', "\"\"") + '"';
    return quoted.toUtf8();
}

QByteArray csvNumber(double value) {
    if (std::isnan(value))
        return {};
    if (std::isinf(value))
        return value > 0 ? "inf" : "-inf";
    constexpr double exact = 9007199254740992; // whole numbers below are written out: bytes, counts
    if (value == std::floor(value) && std::abs(value) < exact)
        return QByteArray::number(static_cast<qint64>(value));
    return QByteArray::number(value, 'g', QLocale::FloatingPointShortest);
}

} // namespace qs::gui
