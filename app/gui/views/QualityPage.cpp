#include "app/gui/views/QualityPage.h"

#include <algorithm>

#include "app/gui/plot/Ticks.h"

namespace qs::gui {

QString nameOf(const Variant& variant) {
    return QString::fromStdString(variant.text());
}

QualityPage::QualityPage(Session* session, const QualityData& data, QWidget* parent)
    : QWidget(parent), session_(session), data_(data), plot_(new Plot) {
    connect(plot_, &Plot::themed, this, [this] { fill(); });
}

void QualityPage::setVariantRows(QCPAxisRect* pane, int rowHeight) {
    const int rows = static_cast<int>(data().variants.size());
    pane->setMinimumSize(60, rowHeight * std::max(rows, 2));
    QCPAxis* y = pane->axis(QCPAxis::atLeft);
    plot()->setFixedTicker(y, QSharedPointer<QCPAxisTicker>(new IndexTicker(
                                  0, rows - 1,
                                  [this](double at, double) {
                                      const auto index = static_cast<std::size_t>(at);
                                      return index < data().variants.size() ? nameOf(data().variants[index])
                                                                            : QString();
                                  },
                                  64)));
    y->setTickLength(0);
    y->setRangeReversed(true);
    y->setRange(-0.6, std::max(rows, 1) - 0.4);
}

} // namespace qs::gui
