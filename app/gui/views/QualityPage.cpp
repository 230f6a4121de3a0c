#include "app/gui/views/QualityPage.h"

namespace qs::gui {

QString nameOf(const Variant& variant) {
    return QString::fromStdString(variant.text());
}

QualityPage::QualityPage(Session* session, const QualityData& data, QWidget* parent)
    : QWidget(parent), session_(session), data_(data), plot_(new Plot) {
    connect(plot_, &Plot::themed, this, [this] { fill(); });
}

} // namespace qs::gui
