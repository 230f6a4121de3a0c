#include "app/gui/panels/FailureBanner.h"

#include <QClipboard>
#include <QFileInfo>
#include <QGuiApplication>
#include <QHBoxLayout>
#include <QLabel>
#include <QPainter>
#include <QToolButton>

#include "app/gui/Icons.h"
#include "app/gui/plot/Theme.h"

namespace qs::gui {

namespace {

/// A path by its last part; the whole stands in the details.
QString shortPlace(const QString& where) {
    return where.startsWith('/') ? QFileInfo(where).fileName() : where;
}

} // namespace

FailureBanner::FailureBanner(QWidget* parent) : QFrame(parent) {
    setObjectName("failureBanner");
    setAccessibleName("Failure");
    auto* mark = new QLabel(this);
    mark->setPixmap(icon("warning").pixmap(18, 18));
    mark->setAlignment(Qt::AlignTop);
    connect(&Theme::instance(), &Theme::changed, mark, [mark] { mark->setPixmap(icon("warning").pixmap(18, 18)); });

    summary_ = new QLabel(this);
    summary_->setObjectName("failureSummary");
    summary_->setWordWrap(true);
    summary_->setTextFormat(Qt::RichText);
    summary_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    details_ = new QLabel(this);
    details_->setObjectName("failureDetails");
    details_->setWordWrap(true);
    details_->setTextFormat(Qt::PlainText);
    details_->setTextInteractionFlags(Qt::TextSelectableByMouse);

    const auto button = [this](const QString& name, const QString& label) {
        auto* made = new QToolButton(this);
        made->setObjectName(name);
        made->setText(label);
        made->setAccessibleName(label);
        return made;
    };
    detailsButton_ = button("failureShowDetails", "Details");
    detailsButton_->setCheckable(true);
    QToolButton* copy = button("failureCopy", "Copy");
    QToolButton* close = button("failureClose", "Close");
    close->setToolButtonStyle(Qt::ToolButtonIconOnly);
    close->setIcon(icon("close"));
    close->setToolTip("Close this message");

    auto* texts = new QVBoxLayout;
    texts->addWidget(summary_);
    texts->addWidget(details_);
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(14, 7, 8, 7);
    layout->addWidget(mark, 0, Qt::AlignTop);
    layout->addLayout(texts, 1);
    for (QToolButton* each : {detailsButton_, copy, close})
        layout->addWidget(each, 0, Qt::AlignTop);

    connect(detailsButton_, &QToolButton::toggled, this, &FailureBanner::showDetails);
    connect(copy, &QToolButton::clicked, this, [this] { QGuiApplication::clipboard()->setText(text()); });
    connect(close, &QToolButton::clicked, this, &QWidget::hide);
    showDetails(false);
    hide();
}

void FailureBanner::showFailure(const Failure& failure) {
    failure_ = failure;
    QString summary;
    if (!failure.where.isEmpty())
        summary = "<b>" + shortPlace(failure.where).toHtmlEscaped() + "</b>: ";
    summary += failure.what.toHtmlEscaped() + '.';
    if (!failure.remedy.isEmpty())
        summary += ' ' + (failure.remedy.at(0).toUpper() + failure.remedy.mid(1)).toHtmlEscaped() + '.';
    summary_->setText(summary);
    details_->setText(text());
    setAccessibleDescription(text());
    detailsButton_->setChecked(false);
    show();
}

QString FailureBanner::text() const {
    QString text = failure_.where.isEmpty() ? failure_.what : failure_.where + ": " + failure_.what;
    return failure_.remedy.isEmpty() ? text : text + "; " + failure_.remedy;
}

void FailureBanner::showDetails(bool on) {
    details_->setVisible(on);
}

void FailureBanner::paintEvent(QPaintEvent*) {
    const Theme& theme = Theme::instance();
    QPainter painter(this);
    painter.fillRect(rect(), theme.dark() ? QColor(0x3a2a1d) : QColor(0xfdf0e4));
    painter.fillRect(QRect(0, 0, 4, height()), theme.dark() ? QColor(0xf08a3c) : QColor(0xc04f00));
    painter.fillRect(QRect(0, height() - 1, width(), 1), theme.grid());
}

} // namespace qs::gui
