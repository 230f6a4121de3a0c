#include "app/gui/panels/FormatsBar.h"

#include <QHBoxLayout>
#include <QScrollArea>
#include <QScrollBar>
#include <QTimer>
#include <QToolButton>
#include <QWheelEvent>

#include <algorithm>

#include "app/gui/Icons.h"
#include "app/gui/panels/FormatChip.h"
#include "app/gui/panels/FormatPicker.h"

namespace qs::gui {

namespace {

QToolButton* button(const QString& name, const QString& image, const QString& tip, QWidget* parent) {
    auto* made = new QToolButton(parent);
    made->setObjectName(name);
    made->setIcon(icon(image));
    made->setToolTip(tip);
    made->setAccessibleName(tip);
    made->setAutoRaise(true);
    return made;
}

} // namespace

FormatsBar::FormatsBar(Session* session, QWidget* parent)
    : QWidget(parent), session_(session), picker_(new FormatPicker(this)) {
    setAccessibleName("Formats to compare");
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(2);

    left_ = button("formatsLeft", "left", "Show the formats to the left", this);
    right_ = button("formatsRight", "right", "Show the formats to the right", this);
    add_ = button("addFormat", "add", "Compare with another format (Ctrl+K)", this);

    auto* inner = new QWidget;
    row_ = new QHBoxLayout(inner);
    row_->setContentsMargins(1, 1, 1, 1);
    row_->setSpacing(5);
    row_->addStretch();
    area_ = new QScrollArea(this);
    area_->setWidget(inner);
    area_->setWidgetResizable(true);
    area_->setFrameShape(QFrame::NoFrame);
    area_->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    area_->setVerticalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    area_->setFocusPolicy(Qt::NoFocus);
    area_->viewport()->installEventFilter(this);
    area_->viewport()->setAutoFillBackground(false);
    inner->setAutoFillBackground(false);

    layout->addWidget(left_);
    layout->addWidget(area_, 1);
    layout->addWidget(right_);
    layout->addWidget(add_);

    connect(left_, &QToolButton::clicked, this, [this] { scrollBy(-120); });
    connect(right_, &QToolButton::clicked, this, [this] { scrollBy(120); });
    connect(add_, &QToolButton::clicked, this, &FormatsBar::pick);
    connect(area_->horizontalScrollBar(), &QScrollBar::rangeChanged, this, &FormatsBar::updateArrows);
    connect(area_->horizontalScrollBar(), &QScrollBar::valueChanged, this, &FormatsBar::updateArrows);
    connect(session, &Session::formatsChanged, this, &FormatsBar::rebuild);
    connect(session, &Session::formatSelected, this, &FormatsBar::markSelected);
    connect(picker_, &FormatPicker::added, this, [this](const FormatSpec& spec) {
        std::vector<FormatSpec> specs = session_->formats();
        specs.push_back(spec);
        session_->setFormats(std::move(specs));
        const auto& formats = session_->formats();
        session_->selectFormat(static_cast<std::size_t>(std::ranges::find(formats, spec) - formats.begin()));
    });
    connect(picker_, &FormatPicker::edited, this, &FormatsBar::replace);
    rebuild();
}

void FormatsBar::pick() {
    picker_->showToAdd(session_->formats());
}

QSize FormatsBar::sizeHint() const {
    const int chips = area_->widget()->sizeHint().width();
    return {chips + add_->sizeHint().width() + 8, area_->widget()->sizeHint().height()};
}

QSize FormatsBar::minimumSizeHint() const {
    return {180, area_->widget()->sizeHint().height()};
}

void FormatsBar::rebuild() {
    const bool focused = std::ranges::any_of(chips_, [](const FormatChip* chip) { return chip->hasFocus(); });
    for (FormatChip* chip : chips_) {
        chip->hide();
        chip->deleteLater(); // it may be the sender of what led here
    }
    chips_.clear();
    for (const FormatSpec& spec : session_->formats()) {
        auto* chip = new FormatChip(spec);
        const auto index = chips_.size();
        connect(chip, &FormatChip::clicked, this, [this, index] {
            session_->selectFormat(index);
            markSelected();
        });
        connect(chip, &FormatChip::removeRequested, this, [this, spec] { remove(spec); });
        connect(chip, &FormatChip::editRequested, this, [this, spec] { picker_->showToEdit(spec); });
        row_->insertWidget(static_cast<int>(chips_.size()), chip);
        chips_.push_back(chip);
    }
    QWidget* before = left_;
    for (FormatChip* chip : chips_) {
        setTabOrder(before, chip);
        before = chip;
    }
    setTabOrder(before, right_);
    setTabOrder(right_, add_);
    markSelected();
    if (focused && !chips_.empty())
        chips_[session_->selectedFormat()]->setFocus();
    updateGeometry();
    QTimer::singleShot(0, this, &FormatsBar::updateArrows);
}

void FormatsBar::markSelected() {
    for (std::size_t i = 0; i < chips_.size(); ++i)
        chips_[i]->setChecked(i == session_->selectedFormat());
    if (session_->selectedFormat() < chips_.size())
        QTimer::singleShot(0, this, [this] {
            if (session_->selectedFormat() < chips_.size())
                area_->ensureWidgetVisible(chips_[session_->selectedFormat()], 8, 0);
        });
}

void FormatsBar::remove(const FormatSpec& spec) {
    std::vector<FormatSpec> specs = session_->formats();
    std::erase(specs, spec);
    session_->setFormats(std::move(specs));
}

void FormatsBar::replace(const FormatSpec& before, const FormatSpec& after) {
    std::vector<FormatSpec> specs = session_->formats();
    std::ranges::replace(specs, before, after);
    session_->setFormats(std::move(specs));
}

void FormatsBar::updateArrows() {
    const QScrollBar* bar = area_->horizontalScrollBar();
    const bool overflow = bar->maximum() > 0;
    left_->setVisible(overflow);
    right_->setVisible(overflow);
    left_->setEnabled(bar->value() > 0);
    right_->setEnabled(bar->value() < bar->maximum());
}

void FormatsBar::scrollBy(int pixels) {
    area_->horizontalScrollBar()->setValue(area_->horizontalScrollBar()->value() + pixels);
}

void FormatsBar::resizeEvent(QResizeEvent* event) {
    QWidget::resizeEvent(event);
    updateArrows();
}

bool FormatsBar::eventFilter(QObject* watched, QEvent* event) {
    if (event->type() != QEvent::Wheel)
        return QWidget::eventFilter(watched, event);
    const QPoint turn = static_cast<QWheelEvent*>(event)->angleDelta();
    scrollBy(-(turn.y() != 0 ? turn.y() : turn.x()));
    return true;
}

} // namespace qs::gui
