#include "app/gui/views/View.h"

#include <QLabel>
#include <QPushButton>
#include <QStackedLayout>
#include <QTimer>
#include <QVBoxLayout>

#include <algorithm>

#include "app/gui/plot/Export.h"

namespace qs::gui {

QString nameOf(const FormatSpec& spec) {
    return QString::fromStdString(spec.text());
}

View::View(Session* session, QWidget* parent)
    : QWidget(parent), session_(session), pages_(new QStackedLayout(this)), content_(new QWidget(this)),
      sentence_(new QLabel(this)), help_(new QPushButton(this)) {
    auto* empty = new QWidget(this);
    auto* column = new QVBoxLayout(empty);
    sentence_->setAlignment(Qt::AlignCenter);
    sentence_->setWordWrap(true);
    column->addStretch();
    column->addWidget(sentence_);
    column->addSpacing(8);
    column->addWidget(help_, 0, Qt::AlignHCenter);
    column->addStretch();
    pages_->addWidget(content_);
    pages_->addWidget(empty);
    connect(help_, &QPushButton::clicked, this, [this] {
        if (action_)
            action_();
    });
}

bool View::exportTo(const QString& path, QString* error) {
    return activePlot()->exportTo(path, error);
}

void View::refreshLater() {
    stale_ = true;
    if (scheduled_ || !isVisible())
        return;
    scheduled_ = true;
    QTimer::singleShot(0, this, [this] {
        scheduled_ = false;
        if (stale_ && isVisible()) {
            stale_ = false;
            refresh();
        }
    });
}

void View::showEvent(QShowEvent* event) {
    QWidget::showEvent(event);
    if (stale_)
        refreshLater();
}

void View::adopt(Plot* plot) {
    plot->setData([this] { return csv(); });
    plot->setAccessibleName(title());
    plot->setProperty("fileName", title().toLower());
    connect(plot, &Plot::failed, this, &View::failed);
}

void View::showEmpty(const QString& sentence, const QString& help, std::function<void()> action) {
    sentence_->setText(sentence);
    help_->setText(help);
    help_->setVisible(!help.isEmpty());
    action_ = std::move(action);
    pages_->setCurrentIndex(1);
}

void View::showContent() {
    pages_->setCurrentIndex(0);
}

std::optional<std::size_t> View::tensorToShow(const QString& open, const QString& select) {
    if (!session_->checkpoint()) {
        showEmpty(open, tr("Open…"), [this] { emit openRequested(); });
        return std::nullopt;
    }
    const auto tensor = session_->selectedTensor();
    if (!tensor) {
        showEmpty(select);
        return std::nullopt;
    }
    const TensorInfo& info = session_->checkpoint()->tensors[*tensor];
    if (!is_weight_type(info.dtype) || info.elements() == 0) {
        showEmpty(tr("%1 holds no weights that can be read (%2).")
                      .arg(QString::fromStdString(info.name), QString::fromStdString(info.dtype_name)));
        return std::nullopt;
    }
    showContent();
    return tensor;
}

void View::selectFormat(const FormatSpec& spec) {
    const auto& formats = session_->formats();
    const auto found = std::ranges::find(formats, spec);
    if (found != formats.end())
        session_->selectFormat(static_cast<std::size_t>(found - formats.begin()));
}

} // namespace qs::gui
