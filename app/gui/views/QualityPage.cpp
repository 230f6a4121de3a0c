#include "app/gui/views/QualityPage.h"

#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QTableWidget>

#include <algorithm>
#include <array>

#include "app/gui/plot/Ticks.h"

namespace qs::gui {

namespace {

constexpr int most_rows = 256;
/// Names beside bars are no longer.
constexpr qsizetype longest_name = 26;

QString shortened(const QString& name) {
    return name.size() <= longest_name ? name : name.left(longest_name - 1) + QStringLiteral("…");
}

} // namespace

QString nameOf(const Variant& variant) {
    return QString::fromStdString(variant.text());
}

QString labelOf(const Variant& variant) {
    const QString format = QString::fromStdString(variant.format.text());
    if (variant.trained)
        return format + QStringLiteral(" · ") + QString::fromStdString(variant.trained->name);
    return variant.rounds_to_nearest() ? format
                                       : format + QStringLiteral(" · ") + QString::fromStdString(variant.method.id);
}

QCPScatterStyle::ScatterShape shapeOf(const Variant& variant) {
    if (variant.trained)
        return QCPScatterStyle::ssStar;
    constexpr std::array shapes = {QCPScatterStyle::ssCircle,   QCPScatterStyle::ssPlus,
                                   QCPScatterStyle::ssTriangle, QCPScatterStyle::ssSquare,
                                   QCPScatterStyle::ssDiamond,  QCPScatterStyle::ssTriangleInverted,
                                   QCPScatterStyle::ssCross};
    const auto all = methods();
    const auto place = std::ranges::find(all, variant.method.id, &Method::id) - all.begin();
    return shapes[static_cast<std::size_t>(place) % shapes.size()];
}

Qt::PenStyle lineOf(const Variant& variant) {
    if (variant.trained)
        return Qt::DashDotDotLine;
    const auto all = methods();
    const auto place = std::ranges::find(all, variant.method.id, &Method::id) - all.begin();
    constexpr std::array styles = {Qt::SolidLine,   Qt::DotLine,     Qt::DashLine,   Qt::DotLine,
                                   Qt::DashDotLine, Qt::DashDotLine, Qt::DashDotLine};
    return styles[static_cast<std::size_t>(place) % styles.size()];
}

void setUpTable(QTableWidget* table, const QStringList& names, const QStringList& tips, int textColumns) {
    table->setColumnCount(static_cast<int>(names.size()));
    for (int i = 0; i < table->columnCount(); ++i) {
        auto* item = new QTableWidgetItem(names[i]);
        item->setToolTip(tips[i]);
        item->setTextAlignment((i < textColumns ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
        table->setHorizontalHeaderItem(i, item);
    }
    table->horizontalHeader()->setSectionResizeMode(QHeaderView::ResizeToContents);
    table->verticalHeader()->hide();
    table->verticalHeader()->setDefaultSectionSize(table->fontMetrics().height() + 8);
    table->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table->setSelectionBehavior(QAbstractItemView::SelectRows);
    table->setSelectionMode(QAbstractItemView::SingleSelection);
    table->setShowGrid(false);
    table->setFrameShape(QFrame::NoFrame);
    table->setWordWrap(false);
    table->setStyleSheet(QStringLiteral("QTableWidget::item { padding: 0 4px; }"));
}

QualityPage::QualityPage(Session* session, const QualityData& data, QWidget* parent)
    : QWidget(parent), session_(session), data_(data), plot_(new Plot) {
    connect(plot_, &Plot::themed, this, [this] { fill(); });
}

QHBoxLayout* QualityPage::addControls(QBoxLayout* column) {
    auto* row = new QHBoxLayout;
    row->setContentsMargins(8, 4, 8, 0);
    row->setSpacing(6);
    column->addLayout(row);
    return row;
}

QLabel* QualityPage::addControl(QBoxLayout* row, const QString& name, QWidget* control) {
    auto* label = new QLabel(name);
    label->setBuddy(control);
    row->addWidget(label);
    row->addWidget(control);
    return label;
}

QString QualityPage::whatToDo(const QString& evaluate) const {
    return data().running      ? tr("Running the first tokens…")
           : data().wants_text ? tr("Choose a text above: what the models predict is measured on it.")
                               : evaluate;
}

bool QualityPage::beginsFormat(std::size_t variant) const {
    const auto& variants = data().variants;
    return variant == 0 || variants[variant - 1].format != variants[variant].format;
}

void QualityPage::setVariantRows(QCPAxisRect* pane, int rowHeight) {
    const int rows = static_cast<int>(data().variants.size());
    pane->setMinimumSize(60, rowHeight * std::max(rows, 2));
    QCPAxis* y = pane->axis(QCPAxis::atLeft);
    plot()->setFixedTicker(y, QSharedPointer<QCPAxisTicker>(new IndexTicker(
                                  0, rows - 1,
                                  [this](double at, double) {
                                      const auto index = static_cast<std::size_t>(at);
                                      return index < data().variants.size() ? shortened(labelOf(data().variants[index]))
                                                                            : QString();
                                  },
                                  most_rows)));
    y->setTickLength(0);
    y->setRangeReversed(true);
    y->setRange(-0.6, std::max(rows, 1) - 0.4);
}

} // namespace qs::gui
