#include "app/gui/panels/JobBar.h"

#include <QFileInfo>
#include <QHBoxLayout>
#include <QLabel>
#include <QProgressBar>
#include <QToolButton>

#include "app/gui/Numbers.h"
#include "app/gui/panels/DeviceBox.h"

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

} // namespace

JobBar::JobBar(Session* session, QWidget* parent) : QWidget(parent), session_(session), measuring_(this) {
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
    throughput_->setToolTip("Throughput of the analysis on its device; click to measure how fast the device's memory "
                            "can be read.");

    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(8, 0, 4, 0);
    layout->addWidget(bar_);
    layout->addWidget(text_);
    layout->addWidget(cancel_);
    layout->addStretch();
    layout->addWidget(throughput_);

    connect(cancel_, &QToolButton::clicked, session, &Session::cancel);
    connect(throughput_, &QToolButton::clicked, this, &JobBar::measureBandwidth);
    connect(session, &Session::progressChanged, this, &JobBar::refresh);
    connect(session, &Session::openingChanged, this, &JobBar::refresh);
    connect(session, &Session::checkpointChanged, this, &JobBar::refresh);
    connect(&measuring_, &Background::failed, session, &Session::failed);
    const auto follow_device = [this] {
        bandwidth_ = 0;
        deviceName_ = shortDeviceName(session_->device()->info());
        refresh();
    };
    connect(session, &Session::deviceChanged, this, follow_device);
    follow_device();
}

void JobBar::refresh() {
    const Session::Progress progress = session_->progress();
    bar_->setVisible(progress.running);
    cancel_->setVisible(progress.running);
    const auto checkpoint = session_->checkpoint();
    if (session_->opening())
        text_->setText("Opening…");
    else if (progress.running) {
        bar_->setValue(progress.total > 0 ? static_cast<int>(steps * progress.done / progress.total) : 0);
        QStringList parts{amount(progress.done, progress.total)};
        if (progress.bytes_per_second > 0)
            parts << si(progress.bytes_per_second, "B/s") << duration(progress.seconds_left) + " left";
        text_->setText(progress.total > 0 ? parts.join(QStringLiteral(" · ")) : QStringLiteral("Starting…"));
    } else if (checkpoint) {
        const QString name = QFileInfo(QString::fromStdString(checkpoint->path.string())).fileName();
        QStringList parts{name, QString::fromStdString(checkpoint->container)};
        parts << count(static_cast<double>(checkpoint->parameters())) + " parameters"
              << bytes(static_cast<double>(checkpoint->bytes()));
        if (progress.total > 0 && progress.done < progress.total)
            parts << "stopped at " + amount(progress.done, progress.total);
        text_->setText(parts.join(QStringLiteral(" · ")));
    } else {
        text_->setText("No checkpoint is open");
    }
    showThroughput();
}

void JobBar::showThroughput() {
    const Session::Progress progress = session_->progress();
    QString text;
    if (progress.bytes_per_second > 0) {
        text = si(progress.bytes_per_second, "B/s");
        if (bandwidth_ > 0)
            text += " of " + si(bandwidth_, "B/s");
        text += QStringLiteral(" · ");
    } else if (bandwidth_ > 0) {
        text = si(bandwidth_, "B/s") + QStringLiteral(" read · ");
    }
    throughput_->setText(text + deviceName_);
}

void JobBar::measureBandwidth() {
    if (measuring_.busy())
        return;
    throughput_->setText("Measuring memory…");
    measuring_.start([device = session_->device()](
                         JobControl& job) { return device->measure_read_gbps(device->info().threads, job) * 1e9; },
                     [this](double bandwidth) {
                         bandwidth_ = bandwidth;
                         showThroughput();
                     });
}

} // namespace qs::gui
