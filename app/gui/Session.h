#pragma once

#include <QElapsedTimer>
#include <QObject>
#include <QString>
#include <QTimer>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/analysis/pipeline.h"
#include "core/analysis/report.h"
#include "core/analysis/throughput.h"
#include "core/checkpoint/checkpoint.h"
#include "core/device/device.h"

namespace qs::gui {

/// An error as the banner shows it.
struct Failure {
    QString where; ///< file, tensor or option
    QString what;
    QString remedy; ///< may be empty
};

/// Where a session's devices come from: the machine, or a test's own.
struct DeviceSource {
    std::function<std::vector<DeviceInfo>()> list = list_devices;
    std::function<std::unique_ptr<Device>(const std::string& id)> make = [](const std::string& id) {
        return make_device(id);
    };
};

/// The document: what is open, chosen, selected and computed. The only state the views share; they read it and call
/// its setters, and never each other. Lives on the UI thread; work runs in jobs whose results come back here in
/// batches, at most 30 times a second, and never after a newer job has begun.
class Session : public QObject {
    Q_OBJECT
public:
    explicit Session(QObject* parent = nullptr, DeviceSource devices = {});
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
    /// Makes the device in a job (`auto`, `cpu`, `cuda:0` …); emits deviceChanged. Where it cannot be made, the default
    /// one is, else the CPU, and deviceNoted says so. What is shown is then measured anew; an analysis that is asked
    /// for meanwhile waits, a running one goes on until then. A GPU that fails later has its work done by the CPU.
    void setDevice(const QString& id);
    /// The CPU until setDevice() has made another.
    std::shared_ptr<Device> device() const { return device_; }
    /// Of the device in use or, while one is being made, of that one; "cpu" at first.
    QString deviceId() const;
    /// What there is, usable or not, as of the last setDevice(); empty before the first has ended.
    const std::vector<DeviceInfo>& devices() const;
    const DeviceSource& deviceSource() const;
    /// How fast the device's memory can be read, in GB/s; 0 until it has been measured.
    double readGbps() const;
    /// Measures readGbps() once nothing has run for a moment, unless it is known or cannot be measured; an analysis
    /// that begins meanwhile comes first.
    void measureReadWhenIdle();
    /// Measures readGbps() now and again.
    void measureRead();
    bool measuringRead() const;

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
    /// The reports of all tensors as measured on the present device; null where there is none.
    std::vector<std::shared_ptr<const TensorReport>> currentReports() const;
    /// Aggregates over what has been measured, for formats() in order; empty before anything is.
    const ModelReport& model() const { return model_; }

    struct Progress : Throughput {
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
    /// What is to be known of a device: it could not be made, it has failed, it did something otherwise.
    void deviceNoted(const qs::gui::Failure& note);
    void readMeasured();    ///< or its measurement has begun or failed
    void resultsChanged();  ///< batched
    void progressChanged(); ///< at most 30 times a second while running, once at the end
    void failed(const qs::gui::Failure& failure);

private:
    struct Job;
    struct Private;
    void adopt(std::shared_ptr<const Checkpoint> checkpoint, Selection coverage);
    void useDevice(const QString& id, std::shared_ptr<Device> device);
    void tellNotes();
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
