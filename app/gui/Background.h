#pragma once

#include <QObject>
#include <QPointer>
#include <QtConcurrent>

#include <functional>
#include <memory>

#include "app/gui/Session.h"
#include "core/base/job.h"

namespace qs::gui {

/// Runs one computation at a time off the UI thread for one owner (a view). Starting a new one cancels the one before,
/// whose result is then never delivered. Results and errors arrive on the UI thread.
class Background : public QObject {
    Q_OBJECT
public:
    explicit Background(QObject* parent) : QObject(parent) {}
    ~Background() override { cancel(); }

    /// `work(JobControl&)` runs on a pool thread; `deliver(result)` on the UI thread if still current.
    template <class Work, class Deliver>
    void start(Work work, Deliver deliver) {
        cancel();
        auto job = std::make_shared<JobControl>();
        job_ = job;
        QPointer<Background> self(this);
        (void)QtConcurrent::run([self, job, work = std::move(work), deliver = std::move(deliver)]() mutable {
            try {
                auto result = std::make_shared<decltype(work(*job))>(work(*job));
                post(self, job, [result, deliver = std::move(deliver)]() mutable { deliver(std::move(*result)); });
            } catch (const Cancelled&) {
                post(self, job, [self] { emit self->stopped(); });
            } catch (const Error& error) {
                post(self, job, [self, failure = toFailure(error)] { emit self->failed(failure); });
            } catch (const std::exception& error) {
                post(self, job, [self, failure = Failure{{}, QString::fromUtf8(error.what()), {}}] {
                    emit self->failed(failure);
                });
            }
        });
    }

    /// Asks the computation to end with what it has so far, which is then delivered; stopped() where it has nothing.
    void finish() {
        if (job_)
            job_->cancel();
    }
    void cancel() {
        if (job_)
            job_->cancel();
        job_.reset();
    }
    bool busy() const { return job_ != nullptr; }
    /// How far the computation is; null when there is none.
    std::shared_ptr<const JobControl> job() const { return job_; }

    static Failure toFailure(const Error& error) {
        return {QString::fromStdString(error.where()), QString::fromStdString(error.reason()),
                QString::fromStdString(error.remedy())};
    }

signals:
    void failed(const qs::gui::Failure& failure);
    /// After finish(), without a result.
    void stopped();

private:
    /// Calls `done` on the UI thread if `job` is still the owner's current one.
    template <class Done>
    static void post(QPointer<Background> self, std::shared_ptr<JobControl> job, Done done) {
        QMetaObject::invokeMethod(
            QCoreApplication::instance(),
            [self, job, done = std::move(done)]() mutable {
                if (!self || self->job_ != job)
                    return;
                self->job_.reset();
                done();
            },
            Qt::QueuedConnection);
    }

    std::shared_ptr<JobControl> job_;
};

} // namespace qs::gui
