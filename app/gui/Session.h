#pragma once

#include <QElapsedTimer>
#include <QObject>
#include <QString>
#include <QTimer>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/analysis/pipeline.h"
#include "core/analysis/report.h"
#include "core/checkpoint/checkpoint.h"
#include "core/device/device.h"

namespace qs::gui {

/// An error as the banner shows it.
struct Failure {
    QString where; ///< file, tensor or option
    QString what;
    QString remedy; ///< may be empty
};

/// The document: what is open, chosen, selected and computed. The only state the views share; they read it and call
/// its setters, and never each other. Lives on the UI thread; work runs in jobs whose results come back here in
/// batches, at most 30 times a second, and never after a newer job has begun.
class Session : public QObject {
    Q_OBJECT
public:
    explicit Session(QObject* parent = nullptr);
    ~Session() override;

    // --- document
    /// Opens in a job; emits checkpointChanged or failed. The open checkpoint stays until the new one is there.
    void open(const QString& path);
    std::shared_ptr<const Checkpoint> checkpoint() const { return checkpoint_; }
    /// A checkpoint is being opened.
    bool opening() const;
    /// Which tensors an analysis covers, and which it skips and why.
    const Selection& coverage() const { return coverage_; }

    // --- formats to compare
    void setFormats(std::vector<FormatSpec> specs);
    const std::vector<FormatSpec>& formats() const { return formats_; }

    // --- selection, the same in every view
    void selectTensor(std::optional<std::size_t> tensor);
    std::optional<std::size_t> selectedTensor() const { return tensor_; }
    /// One weight of the selected tensor, by its place in the flattened tensor; another tensor has none selected.
    void selectElement(std::optional<std::uint64_t> element);
    std::optional<std::uint64_t> selectedElement() const { return element_; }
    /// Index into formats(): the one whose error the tree's heat cells show and the Histogram overlays first.
    void selectFormat(std::size_t index);
    std::size_t selectedFormat() const { return format_; }
    std::optional<FormatSpec> selectedSpec() const; ///< formats()[selectedFormat()], if there is any

    // --- the device
    /// Makes the device in a job (`auto`, `cpu`, `cuda:0` …); emits deviceChanged or failed. An analysis that is asked
    /// for meanwhile waits for it; a running one goes on with it.
    void setDevice(const QString& id);
    /// The CPU until setDevice() has made another.
    std::shared_ptr<Device> device() const { return device_; }
    /// What setDevice() was last asked for; "cpu" at first.
    QString deviceId() const;

    // --- results
    /// Starts (or restarts) the analysis of all covered tensors in all formats; results that are already there for a
    /// format are kept and not measured again.
    void analyse();
    void cancel();
    bool running() const;
    /// Some tensor of the open checkpoint has been measured.
    bool measured() const;
    /// The tensor's report for what has been measured so far; nullptr before that. Its results carry their spec:
    /// look them up with result().
    const TensorReport* report(std::size_t tensor) const;
    const FormatResult* result(std::size_t tensor, const FormatSpec& spec) const;
    /// Aggregates over what has been measured, for formats() in order; empty before anything is.
    const ModelReport& model() const { return model_; }

    struct Progress {
        double done = 0, total = 0; ///< bytes
        double bytes_per_second = 0;
        double seconds_left = 0;
        bool running = false;
    };
    Progress progress() const;

signals:
    void openingChanged();
    void checkpointChanged();
    void formatsChanged();
    void tensorSelected();
    void elementSelected();
    void formatSelected();
    void deviceChanged();
    void resultsChanged();  ///< batched
    void progressChanged(); ///< at most 30 times a second while running, once at the end
    void failed(const qs::gui::Failure& failure);

private:
    struct Job;
    struct Private;
    void adopt(std::shared_ptr<const Checkpoint> checkpoint, Selection coverage);
    void stop();
    void collect();
    void aggregateSoon();
    void remapModel(const std::vector<FormatSpec>& before);
    void finish(const std::shared_ptr<Job>& job, const std::optional<Failure>& failure);

    std::shared_ptr<const Checkpoint> checkpoint_;
    Selection coverage_;
    std::vector<FormatSpec> formats_;
    std::optional<std::size_t> tensor_;
    std::optional<std::uint64_t> element_;
    std::size_t format_ = 0;
    std::shared_ptr<Device> device_;
    ModelReport model_;
    std::unique_ptr<Private> d_;
};

} // namespace qs::gui
