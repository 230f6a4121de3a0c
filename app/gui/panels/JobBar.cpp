#include "app/gui/panels/JobBar.h"

#include <QFileInfo>
#include <QHBoxLayout>
#include <QLabel>
#include <QProgressBar>
#include <QToolButton>

#include <algorithm>

#include "app/gui/Numbers.h"
#include "app/gui/panels/DeviceChooser.h"

namespace qs::gui {

namespace {

constexpr int steps = 1000;

/// "4.1 of 13.5 GB": both in the unit of the whole.
QString amount(double done, double total) {
    const QString whole = bytes(total);
    const qsizetype cut = whole.lastIndexOf(thin_space);
    const double unit = total / QString(whole.left(cut)).remove(thin_space).toDouble();
    return (unit > 0 ? significant(done / unit) : significant(done)) + " of " + whole;
}

const QString between = QStringLiteral(" · ");

QStringList runningTexts(const Throughput& run) {
    if (run.total <= 0)
        return {"Starting…"};
    const QString amounts = amount(run.done, run.total);
    if (run.bytes_per_second <= 0)
        return {amounts};
    const QString left = amounts + between + duration(run.seconds_left()) + " left";
    return {left + between + duration(run.seconds) + " so far", left};
}

/// What is open and what measuring it has taken.
QStringList checkpointTexts(const Checkpoint* checkpoint, const Throughput& run) {
    if (checkpoint == nullptr)
        return {"No checkpoint is open"};
    const QString name = QFileInfo(QString::fromStdString(checkpoint->path.string())).fileName();
    const QString size = bytes(static_cast<double>(checkpoint->bytes()));
    const QString all = QStringList{name, QString::fromStdString(checkpoint->container),
                                    count(static_cast<double>(checkpoint->parameters())) + " parameters", size}
                            .join(between);
    QString end;
    if (run.total > 0 && run.done < run.total)
        end = between + "stopped at " + amount(run.done, run.total);
    const QString took = run.total > 0 && end.isEmpty() ? between + "analysed in " + duration(run.seconds) : end;
    constexpr qsizetype short_name = 24;
    const QString cut = name.size() <= short_name ? name : name.left(short_name - 1) + QStringLiteral("…");
    return {all + took, all + end, name + between + size + end, cut + end};
}

/// "12.3 GB/s · 41.0 % of the memory's 30.1 GB/s · CPU".
QStringList throughputTexts(const Throughput& run, double read_gbps, bool measuring, const DeviceInfo& device) {
    const QString name = shortDeviceName(device), kind = device.kind == "cpu" ? QStringLiteral("CPU") : name;
    const QString memory = si(1e9 * read_gbps, "B/s");
    QString share;
    if (measuring)
        share = "measuring the memory…";
    else if (run.bytes_per_second > 0 && read_gbps > 0)
        share = percent(run.share_of(read_gbps)) + " of the memory's " + memory;
    else if (read_gbps > 0)
        share = "the memory is read at " + memory;
    QStringList rates, more;
    if (run.bytes_per_second > 0) {
        rates += si(run.bytes_per_second, "B/s");
        more = rates + QStringList{count(run.weights_per_second()) + " weights/s"};
    }
    if (!share.isEmpty()) {
        rates += share;
        more += share;
    }
    return {(more + QStringList{name}).join(between), (rates + QStringList{name}).join(between),
            (rates + QStringList{kind}).join(between), rates.isEmpty() ? kind : rates.join(between)};
}

/// All of it, unrounded.
QString throughputFacts(const Throughput& run, double read_gbps, const DeviceInfo& device) {
    QStringList lines{deviceFacts(device)};
    if (run.bytes_per_second > 0)
        lines += QStringLiteral("The analysis has read %1 in %2: %3, %4 weights/s")
                     .arg(bytes(run.done), duration(run.seconds), si(run.bytes_per_second, "B/s"),
                          count(run.weights_per_second()));
    if (read_gbps > 0)
        lines += QStringLiteral("The device's memory can be read at %1").arg(si(1e9 * read_gbps, "B/s"));
    lines += QStringLiteral("Click to measure how fast the device's memory can be read, when nothing else runs");
    return lines.join('\n');
}

} // namespace

JobBar::JobBar(Session* session, QWidget* parent) : QWidget(parent), session_(session) {
    bar_ = new QProgressBar(this);
    bar_->setObjectName("progress");
    bar_->setAccessibleName("Progress of the analysis");
    bar_->setRange(0, steps);
    bar_->setTextVisible(false);
    bar_->setFixedSize(160, 6);
    text_ = new QLabel(this);
    text_->setObjectName("progressText");
    cancel_ = new QToolButton(this);
    cancel_->setObjectName("cancel");
    cancel_->setText("Cancel");
    cancel_->setToolTip("Stop the analysis and keep what it has measured (Esc)");
    cancel_->setAccessibleName("Cancel the analysis");
    throughput_ = new QToolButton(this);
    throughput_->setObjectName("throughput");
    throughput_->setAccessibleName("Throughput and device");

    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(8, 0, 4, 0);
    layout->addWidget(bar_);
    layout->addWidget(text_);
    layout->addWidget(cancel_);
    layout->addStretch();
    layout->addWidget(throughput_);

    connect(cancel_, &QToolButton::clicked, session, &Session::cancel);
    connect(throughput_, &QToolButton::clicked, session, &Session::measureRead);
    for (auto signal : {&Session::progressChanged, &Session::openingChanged, &Session::checkpointChanged,
                        &Session::deviceChanged, &Session::readMeasured})
        connect(session, signal, this, &JobBar::refresh);
    connect(session, &Session::progressChanged, this, [session] {
        if (!session->running() && session->measured())
            session->measureReadWhenIdle();
    });
    refresh();
}

void JobBar::refresh() {
    const Session::Progress progress = session_->progress();
    bar_->setVisible(progress.running);
    cancel_->setVisible(progress.running);
    if (progress.total > 0)
        bar_->setValue(static_cast<int>(steps * progress.done / progress.total));
    texts_ = session_->opening() ? QStringList{"Opening…"}
             : progress.running  ? runningTexts(progress)
                                 : checkpointTexts(session_->checkpoint().get(), progress);
    const DeviceInfo device = session_->device()->info();
    throughputs_ = throughputTexts(progress, session_->readGbps(), session_->measuringRead(), device);
    throughput_->setToolTip(throughputFacts(progress, session_->readGbps(), device));
    fit();
}

/// The most words for which there is room.
void JobBar::fit() {
    const auto shown = [](const QStringList& texts, qsizetype shorter) {
        return texts.at(std::min(shorter, texts.size() - 1));
    };
    const qsizetype shortest = std::max(texts_.size(), throughputs_.size()) - 1;
    for (qsizetype shorter = 0; shorter <= shortest; ++shorter) {
        text_->setText(shown(texts_, shorter));
        throughput_->setText(shown(throughputs_, shorter));
        layout()->invalidate();
        if (layout()->minimumSize().width() <= width())
            return;
    }
}

void JobBar::resizeEvent(QResizeEvent* event) {
    QWidget::resizeEvent(event);
    fit();
}

} // namespace qs::gui
