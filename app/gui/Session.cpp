#include "app/gui/Session.h"

#include <QThreadPool>

#include <algorithm>
#include <deque>
#include <mutex>

#include "app/gui/Background.h"
#include "core/device/discovery.h"
#include "core/device/fallback.h"

namespace qs::gui {

namespace {

using Report = std::shared_ptr<const TensorReport>;

/// Batches reach the views at most this often.
constexpr int batch_ms = 34;
/// How often a device that seems to do nothing is asked for its notes.
constexpr int listening_ms = 500;
/// A pause after which the memory may be measured without being in the way.
constexpr int idle_ms = 600;

/// Tensors that have the same formats to be measured.
struct Work {
    std::vector<FormatSpec> specs;
    std::vector<std::size_t> tensors;
};

const FormatResult* find(const TensorReport& report, const FormatSpec& spec) {
    const auto found = std::ranges::find(report.results, spec, &FormatResult::spec);
    return found == report.results.end() ? nullptr : &*found;
}

bool contains(const std::vector<FormatSpec>& specs, const FormatSpec& spec) {
    return std::ranges::find(specs, spec) != specs.end();
}

std::vector<FormatSpec> missing(const Report& report, const std::vector<FormatSpec>& specs) {
    if (!report)
        return specs;
    std::vector<FormatSpec> lacking;
    std::ranges::copy_if(specs, std::back_inserter(lacking),
                         [&](const FormatSpec& spec) { return find(*report, spec) == nullptr; });
    return lacking;
}

/// What is left to measure, tensors with the same missing formats together.
std::vector<Work> plan(const std::vector<std::size_t>& tensors, const std::vector<Report>& reports,
                       const std::vector<FormatSpec>& specs) {
    std::vector<Work> works;
    for (const std::size_t tensor : tensors) {
        std::vector<FormatSpec> lacking = missing(reports[tensor], specs);
        if (reports[tensor] && lacking.empty())
            continue;
        auto work = std::ranges::find(works, lacking, &Work::specs);
        if (work == works.end())
            work = works.insert(works.end(), Work{std::move(lacking), {}});
        work->tensors.push_back(tensor);
    }
    return works;
}

/// Counts of thousands of codes (bf16 has 65,536) take half a megabyte a tensor and format. Of models with more
/// measured tensors than this only each tensor's entropy is kept; sums over them have none then.
constexpr std::size_t tensors_with_all_counts = 256;
constexpr std::size_t always_kept_codes = 1024;

/// A report as the session keeps it.
Report compact(TensorReport report, bool all_counts) {
    for (FormatResult& result : report.results)
        if (result.usage.size() > always_kept_codes && !all_counts) {
            result.entropy = result.code_entropy();
            result.usage = {};
        }
    return std::make_shared<const TensorReport>(std::move(report));
}

/// `old` with the results of `added`.
Report merged(const Report& old, const Report& added) {
    if (!old)
        return added;
    auto both = std::make_shared<TensorReport>(*old);
    both->results.insert(both->results.end(), added->results.begin(), added->results.end());
    return both;
}

/// The report without what is not in `specs`.
Report restricted(const Report& report, const std::vector<FormatSpec>& specs) {
    const auto wanted = [&](const FormatResult& result) { return contains(specs, result.spec); };
    if (!report || std::ranges::all_of(report->results, wanted))
        return report;
    auto kept = std::make_shared<TensorReport>();
    kept->tensor = report->tensor;
    kept->statistics = report->statistics;
    std::ranges::copy_if(report->results, std::back_inserter(kept->results), wanted);
    return kept;
}

/// What making a device has come to.
struct MadeDevice {
    std::vector<DeviceInfo> devices;
    std::string id;
    std::shared_ptr<Device> device;
    std::optional<Failure> problem; ///< with the device that was asked for
};

/// A device as messages name it: "H100 (cuda:0)", or its id where nothing else is known of it.
QString nameOf(const DeviceInfo& info) {
    return QString::fromStdString(info.name + " (" + info.id + ")");
}

QString nameOf(const std::vector<DeviceInfo>& devices, const std::string& id) {
    const auto found = std::ranges::find(devices, id, &DeviceInfo::id);
    return found == devices.end() ? QString::fromStdString(id) : nameOf(*found);
}

/// The device, else the default one, else the CPU; throws where there is not even that.
MadeDevice makeDevice(const DeviceSource& source, const std::string& wanted) {
    MadeDevice made;
    made.devices = source.list();
    const std::string usual = default_device(made.devices);
    const std::string first = wanted == "auto" ? usual : wanted;
    std::vector<std::string> candidates{first, usual, "cpu"};
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    for (const std::string& id : candidates) {
        try {
            made.device = with_cpu_fallback(source.make(id));
            made.id = id;
            break;
        } catch (const Error& error) {
            if (id == "cpu")
                throw;
            if (!made.problem)
                made.problem = Failure{nameOf(made.devices, id), QString::fromStdString(error.reason()), {}};
        }
    }
    if (made.problem)
        made.problem->remedy = nameOf(made.devices, made.id) + " does the work instead";
    return made;
}

} // namespace

/// One analysis. The worker and the session share it; the session drops it when it is no longer wanted.
struct Session::Job {
    JobControl control;
    double total = 0;        ///< bytes
    double weights = 0;      ///< in them
    bool all_counts = false; ///< see tensors_with_all_counts
    QElapsedTimer clock;
    RecentRate rate;
    std::mutex mutex;
    std::vector<Report> arrived; ///< guarded by mutex

    double seconds() const { return 1e-9 * static_cast<double>(clock.nsecsElapsed()); }

    void run(const Checkpoint& checkpoint, const std::vector<Work>& works, Device& device) {
        // Reports are handed over and let go chunk by chunk, so that memory does not grow with the checkpoint.
        constexpr std::size_t chunk = 256;
        const auto deliver = [this](const TensorReport& report) {
            Report kept = compact(report, all_counts);
            const std::lock_guard lock(mutex);
            arrived.push_back(std::move(kept));
        };
        for (const Work& work : works)
            for (std::size_t begin = 0; begin < work.tensors.size(); begin += chunk) {
                const auto first = work.tensors.begin() + static_cast<std::ptrdiff_t>(begin);
                const auto last = first + static_cast<std::ptrdiff_t>(std::min(chunk, work.tensors.size() - begin));
                analyze(checkpoint, std::vector<std::size_t>(first, last), work.specs, device, control, deliver);
            }
    }
};

struct Session::Private {
    explicit Private(Session* session, DeviceSource devices)
        : source(std::move(devices)), opening(session), making(session), aggregating(session), reading(session),
          ticks(session), idle(session), listening(session) {
        worker.setMaxThreadCount(2);
    }

    DeviceSource source;
    Background opening;
    Background making; ///< of the device
    Background aggregating;
    Background reading; ///< of the device's memory, to see how fast that is
    QTimer ticks;
    QTimer idle;      ///< since the last run, before reading
    QTimer listening; ///< to the device's notes
    QThreadPool worker;
    std::shared_ptr<Job> job;
    std::vector<Report> reports;       ///< by tensor; null where nothing was measured
    std::vector<bool> of_other_device; ///< by tensor: shown until it is measured anew
    bool any_report = false;
    bool stale = false;      ///< model_ lacks some of the reports
    QElapsedTimer since_sum; ///< since the last sum began
    qint64 sum_ms = 0;       ///< what the last one took
    bool analyse_when_made = false;
    QString device_id = QStringLiteral("cpu"); ///< in use
    QString asked_id;                          ///< being made
    std::string info_id;                       ///< of the device itself, which changes where the CPU takes over
    std::vector<DeviceInfo> devices;
    std::size_t notes_told = 0;
    std::map<QString, double> read_gbps; ///< by device id; 0 where it cannot be measured
    Progress last;
};

Session::Session(QObject* parent, DeviceSource devices)
    : QObject(parent), device_(make_cpu_device()), d_(std::make_unique<Private>(this, std::move(devices))) {
    d_->info_id = device_->info().id;
    d_->ticks.setInterval(batch_ms);
    connect(&d_->ticks, &QTimer::timeout, this, [this] {
        collect();
        tellNotes();
        emit progressChanged();
    });
    // Views work on the device too, so that notes come at any time.
    d_->listening.setInterval(listening_ms);
    connect(&d_->listening, &QTimer::timeout, this, &Session::tellNotes);
    d_->listening.start();
    d_->idle.setInterval(idle_ms);
    d_->idle.setSingleShot(true);
    connect(&d_->idle, &QTimer::timeout, this, [this] {
        if (!running() && !opening() && !d_->making.busy() && !d_->read_gbps.contains(d_->device_id))
            measureRead();
    });
    connect(&d_->opening, &Background::failed, this, [this](const Failure& failure) {
        emit openingChanged();
        emit failed(failure);
    });
    connect(&d_->making, &Background::failed, this, [this](const Failure& failure) {
        d_->asked_id.clear();
        emit deviceChanged();
        emit failed(failure);
        if (std::exchange(d_->analyse_when_made, false))
            analyse();
    });
    connect(&d_->reading, &Background::failed, this, [this](const Failure& failure) {
        d_->read_gbps.try_emplace(d_->device_id, 0);
        emit readMeasured();
        emit failed(failure);
    });
    connect(&d_->aggregating, &Background::failed, this, &Session::failed);
}

Session::~Session() {
    if (d_->job)
        d_->job->control.cancel();
    // A job looks at its control every few milliseconds; its thread must not outlive the device's libraries.
    d_->worker.waitForDone();
}

// --- document ------------------------------------------------------------------------------------------------------

void Session::open(const QString& path) {
    struct Opened {
        std::shared_ptr<const Checkpoint> checkpoint;
        Selection coverage;
    };
    d_->opening.start(
        [file = path.toStdString()](JobControl&) {
            auto checkpoint = open_checkpoint(file);
            Selection coverage = select_tensors(*checkpoint);
            return Opened{std::move(checkpoint), std::move(coverage)};
        },
        [this](Opened opened) { adopt(std::move(opened.checkpoint), std::move(opened.coverage)); });
    emit openingChanged();
}

bool Session::opening() const {
    return d_->opening.busy();
}

void Session::adopt(std::shared_ptr<const Checkpoint> checkpoint, Selection coverage) {
    stop();
    d_->aggregating.cancel();
    checkpoint_ = std::move(checkpoint);
    coverage_ = std::move(coverage);
    d_->reports.assign(checkpoint_->tensors.size(), nullptr);
    d_->of_other_device.assign(checkpoint_->tensors.size(), false);
    d_->any_report = d_->stale = false;
    d_->last = {};
    model_ = {};
    tensor_.reset();
    element_.reset();
    emit openingChanged();
    emit checkpointChanged();
    emit tensorSelected();
    emit resultsChanged();
    emit progressChanged();
}

// --- formats -------------------------------------------------------------------------------------------------------

void Session::setFormats(std::vector<FormatSpec> specs) {
    std::vector<FormatSpec> unique;
    for (FormatSpec& spec : specs)
        if (!contains(unique, spec))
            unique.push_back(std::move(spec));
    if (unique == formats_)
        return;
    const bool was_running = running();
    stop();
    d_->aggregating.cancel();

    const std::optional<FormatSpec> selected = selectedSpec();
    const std::vector<FormatSpec> before = std::exchange(formats_, std::move(unique));
    for (Report& report : d_->reports)
        report = restricted(report, formats_);
    remapModel(before);

    const auto kept = selected ? std::ranges::find(formats_, *selected) : formats_.end();
    format_ = kept != formats_.end() ? static_cast<std::size_t>(kept - formats_.begin())
                                     : std::min(format_, formats_.empty() ? 0 : formats_.size() - 1);
    emit formatsChanged();
    emit formatSelected();
    emit resultsChanged();
    if (was_running)
        analyse();
    else
        aggregateSoon();
}

/// Puts the aggregates in the order of formats(); a new format has none yet.
void Session::remapModel(const std::vector<FormatSpec>& before) {
    d_->stale = d_->any_report;
    if (model_.model.empty())
        return;
    const auto remap = [&](std::vector<AggregateResult>& results) {
        std::vector<AggregateResult> ordered(formats_.size());
        for (std::size_t i = 0; i < formats_.size(); ++i) {
            const auto old = static_cast<std::size_t>(std::ranges::find(before, formats_[i]) - before.begin());
            if (old < results.size())
                ordered[i] = std::move(results[old]);
            else
                ordered[i].spec = ordered[i].total.spec = formats_[i];
        }
        results = std::move(ordered);
    };
    remap(model_.model);
    for (auto& [layer, results] : model_.layers)
        remap(results);
    for (auto& [role, results] : model_.roles)
        remap(results);
}

// --- selection -----------------------------------------------------------------------------------------------------

void Session::selectTensor(std::optional<std::size_t> tensor) {
    if (tensor && (!checkpoint_ || *tensor >= checkpoint_->tensors.size()))
        tensor.reset();
    if (tensor == tensor_)
        return;
    tensor_ = tensor;
    element_.reset();
    emit tensorSelected();
}

void Session::selectElement(std::optional<std::uint64_t> element) {
    if (element && (!tensor_ || *element >= checkpoint_->tensors[*tensor_].elements()))
        element.reset();
    if (element == element_)
        return;
    element_ = element;
    emit elementSelected();
}

void Session::selectFormat(std::size_t index) {
    if (index >= formats_.size() || index == format_)
        return;
    format_ = index;
    emit formatSelected();
}

std::optional<FormatSpec> Session::selectedSpec() const {
    return format_ < formats_.size() ? std::optional(formats_[format_]) : std::nullopt;
}

// --- the device ----------------------------------------------------------------------------------------------------

void Session::setDevice(const QString& id) {
    d_->asked_id = id;
    d_->reading.cancel();
    d_->making.start(
        [source = d_->source, wanted = id.toStdString()](JobControl&) { return makeDevice(source, wanted); },
        [this](MadeDevice made) {
            d_->asked_id.clear();
            d_->devices = std::move(made.devices);
            useDevice(QString::fromStdString(made.id), std::move(made.device));
            if (made.problem)
                emit deviceNoted(*made.problem);
        });
}

/// Takes the device; what was measured on another stays in sight until it is measured anew.
void Session::useDevice(const QString& id, std::shared_ptr<Device> device) {
    const bool other = id != d_->device_id;
    const bool go_on = running() || (other && measured());
    d_->analyse_when_made = false;
    stop();
    tellNotes();
    device_ = std::move(device);
    d_->device_id = id;
    d_->info_id = device_->info().id;
    d_->notes_told = 0;
    if (other) {
        d_->of_other_device.assign(d_->reports.size(), true);
        d_->last = {};
    }
    emit deviceChanged();
    if (go_on)
        analyse();
    else
        emit progressChanged();
}

QString Session::deviceId() const {
    return d_->asked_id.isEmpty() || d_->asked_id == "auto" ? d_->device_id : d_->asked_id;
}

const std::vector<DeviceInfo>& Session::devices() const {
    return d_->devices;
}

const DeviceSource& Session::deviceSource() const {
    return d_->source;
}

/// Says what the device has noted since the last time, and follows where the CPU has taken over.
void Session::tellNotes() {
    const std::vector<std::string> notes = device_->notes();
    if (const std::string id = device_->info().id; id != d_->info_id) {
        d_->info_id = id;
        d_->device_id = QString::fromStdString(id);
        d_->of_other_device.assign(d_->reports.size(), true);
        emit deviceChanged();
    }
    const std::size_t told = std::exchange(d_->notes_told, notes.size());
    if (notes.size() == told)
        return;
    constexpr std::size_t at_most = 3;
    QStringList latest;
    for (std::size_t i = told; i < notes.size() && i < told + at_most; ++i)
        latest += QString::fromStdString(notes[i]);
    if (notes.size() > told + at_most)
        latest += QStringLiteral("There are %1 more such notes").arg(notes.size() - told - at_most);
    emit deviceNoted({{}, latest.join(QStringLiteral(". ")), {}});
}

double Session::readGbps() const {
    const auto known = d_->read_gbps.find(d_->device_id);
    return known == d_->read_gbps.end() ? 0 : known->second;
}

void Session::measureReadWhenIdle() {
    if (!d_->read_gbps.contains(d_->device_id) && !d_->reading.busy())
        d_->idle.start();
}

void Session::measureRead() {
    if (d_->reading.busy() || running())
        return;
    d_->reading.start(
        [device = device_](JobControl& job) { return device->measure_read_gbps(device->info().threads, job); },
        [this, id = d_->device_id](double gbps) {
            d_->read_gbps[id] = gbps;
            emit readMeasured();
        });
    emit readMeasured();
}

bool Session::measuringRead() const {
    return d_->reading.busy();
}

// --- results -------------------------------------------------------------------------------------------------------

void Session::analyse() {
    if (!checkpoint_)
        return;
    stop();
    d_->idle.stop();
    d_->reading.cancel();
    if (d_->making.busy()) {
        d_->analyse_when_made = true;
        emit progressChanged();
        return;
    }
    std::vector<Work> works = plan(coverage_.tensors, currentReports(), formats_);
    if (works.empty()) {
        aggregateSoon();
        emit progressChanged();
        return;
    }
    auto job = std::make_shared<Job>();
    job->all_counts = coverage_.tensors.size() <= tensors_with_all_counts;
    for (const Work& work : works)
        for (const std::size_t tensor : work.tensors) {
            job->total += static_cast<double>(checkpoint_->tensors[tensor].bytes);
            job->weights += static_cast<double>(checkpoint_->tensors[tensor].elements());
        }
    job->clock.start();
    job->rate.sample(0, 0);
    d_->job = job;
    d_->worker.start([this, job, checkpoint = checkpoint_, device = device_, works = std::move(works)] {
        std::optional<Failure> failure;
        try {
            job->run(*checkpoint, works, *device);
        } catch (const Cancelled&) {
            return;
        } catch (const Error& error) {
            failure = Background::toFailure(error);
        } catch (const std::exception& error) {
            failure = Failure{QString::fromStdString(checkpoint->path.string()), QString::fromUtf8(error.what()), {}};
        }
        // The session waits for its workers, so that `this` is there; what is posted to it dies with it.
        QMetaObject::invokeMethod(
            this, [this, job, failure] { finish(job, failure); }, Qt::QueuedConnection);
    });
    d_->ticks.start();
    emit progressChanged();
}

void Session::finish(const std::shared_ptr<Job>& job, const std::optional<Failure>& failure) {
    if (d_->job != job)
        return;
    stop();
    emit progressChanged();
    if (failure)
        emit failed(*failure);
}

void Session::cancel() {
    d_->analyse_when_made = false;
    if (!running())
        return;
    stop();
    emit progressChanged();
}

/// Ends the current job, keeping what it has delivered so far.
void Session::stop() {
    if (!d_->job)
        return;
    collect();
    d_->last = progress();
    d_->last.running = false;
    // What is told of a run that has ended is its mean throughput.
    d_->last.bytes_per_second = mean_rate(d_->last.done, d_->last.seconds);
    d_->job->control.cancel();
    d_->job.reset();
    d_->ticks.stop();
    tellNotes();
    aggregateSoon();
}

bool Session::running() const {
    return d_->job != nullptr || d_->analyse_when_made;
}
bool Session::measured() const {
    return d_->any_report;
}

/// Takes over what the worker has finished since the last batch.
void Session::collect() {
    if (d_->job) {
        std::vector<Report> arrived;
        {
            const std::lock_guard lock(d_->job->mutex);
            arrived.swap(d_->job->arrived);
        }
        for (const Report& report : arrived) {
            Report& kept = d_->reports[report->tensor];
            kept = d_->of_other_device[report->tensor] ? report : merged(kept, report);
            d_->of_other_device[report->tensor] = false;
        }
        d_->job->rate.sample(d_->job->seconds(), static_cast<double>(d_->job->control.done()));
        if (!arrived.empty()) {
            d_->any_report = d_->stale = true;
            emit resultsChanged();
        }
    }
    aggregateSoon();
}

/// Sums up in the background; one sum at a time, the next one begins with a later batch.
void Session::aggregateSoon() {
    if (!d_->stale || d_->aggregating.busy() || !checkpoint_)
        return;
    // While tensors are measured, sums of large models take at most a tenth of a core from it.
    if (d_->job && d_->since_sum.isValid() && d_->since_sum.elapsed() < 10 * d_->sum_ms)
        return;
    d_->stale = false;
    d_->since_sum.start();
    d_->aggregating.start(
        [checkpoint = checkpoint_, specs = formats_, reports = d_->reports](JobControl&) {
            std::vector<const TensorReport*> measured;
            for (const Report& report : reports)
                if (report)
                    measured.push_back(report.get());
            return aggregate(*checkpoint, specs, std::move(measured));
        },
        [this](ModelReport model) {
            d_->sum_ms = d_->since_sum.elapsed();
            model_ = std::move(model);
            emit resultsChanged();
            if (!d_->job)
                aggregateSoon();
        });
}

std::vector<Report> Session::currentReports() const {
    std::vector<Report> reports = d_->reports;
    for (std::size_t tensor = 0; tensor < reports.size(); ++tensor)
        if (d_->of_other_device[tensor])
            reports[tensor].reset();
    return reports;
}

const TensorReport* Session::report(std::size_t tensor) const {
    return tensor < d_->reports.size() ? d_->reports[tensor].get() : nullptr;
}

const FormatResult* Session::result(std::size_t tensor, const FormatSpec& spec) const {
    const TensorReport* measured = report(tensor);
    return measured ? find(*measured, spec) : nullptr;
}

Session::Progress Session::progress() const {
    if (!d_->job) {
        Progress progress = d_->last;
        progress.running = d_->analyse_when_made;
        return progress;
    }
    Progress progress;
    progress.total = d_->job->total;
    progress.done = std::min(static_cast<double>(d_->job->control.done()), progress.total);
    progress.weights = d_->job->weights;
    progress.seconds = d_->job->seconds();
    progress.bytes_per_second = d_->job->rate.bytes_per_second();
    progress.running = true;
    return progress;
}

} // namespace qs::gui
