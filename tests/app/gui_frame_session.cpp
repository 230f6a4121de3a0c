#include <QElapsedTimer>
#include <QSignalSpy>
#include <QTemporaryDir>
#include <QTest>

#include <algorithm>
#include <cmath>

#include "app/gui/Session.h"
#include "core/analysis/pipeline.h"
#include "core/formats/registry.h"
#include "gui_frame_files.h"

using namespace qs;
using namespace qs::gui;

namespace {

/// Large enough that an analysis takes a while, small enough for a test.
constexpr int big_layers = 6, big_width = 768;

} // namespace

class GuiSessionTest : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    QString small_, big_, broken_;

    static bool open(Session& session, const QString& path) {
        QSignalSpy opened(&session, &Session::checkpointChanged);
        session.open(path);
        return opened.wait(5000);
    }
    /// The run has ended and the sums are over everything.
    static bool settled(Session& session) {
        const auto summed = [&] {
            const auto& model = session.model().model;
            return !model.empty() && std::ranges::all_of(model, [&](const AggregateResult& each) {
                return each.tensors == session.coverage().tensors.size();
            });
        };
        return QTest::qWaitFor([&] { return !session.running() && summed(); }, 30000);
    }
    /// What the pipeline itself gives for the tensor.
    static FormatResult expected(const Session& session, std::size_t tensor, const FormatSpec& spec) {
        JobControl job;
        const auto device = make_cpu_device();
        return analyze(*session.checkpoint(), {tensor}, {spec}, *device, job).front().results.front();
    }

private slots:
    void initTestCase() {
        QVERIFY(folder_.isValid());
        small_ = folder_.filePath("small.safetensors");
        big_ = folder_.filePath("big.safetensors");
        broken_ = folder_.filePath("broken.safetensors");
        writeSafetensors(small_, decoder(2, 64));
        writeSafetensors(big_, decoder(big_layers, big_width));
        QFile file(broken_);
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10);
    }

    void opensOffTheThread() {
        Session session;
        QSignalSpy opened(&session, &Session::checkpointChanged);
        session.open(small_);
        QVERIFY(session.opening());
        QVERIFY(!session.checkpoint());
        QVERIFY(opened.wait(5000));
        QVERIFY(!session.opening());
        QCOMPARE(session.checkpoint()->tensors.size(), std::size_t(19));
        QCOMPARE(session.coverage().tensors.size(), std::size_t(16));
        QCOMPARE(session.coverage().skipped.size(), std::size_t(3));
    }

    void reportsWhatCannotBeOpened() {
        Session session;
        QVERIFY(open(session, small_));
        QSignalSpy failed(&session, &Session::failed);
        session.open(broken_);
        QVERIFY(failed.wait(5000));
        const auto failure = failed.front().front().value<Failure>();
        QVERIFY2(failure.where.contains("broken.safetensors"), qPrintable(failure.where));
        QVERIFY(!failure.what.isEmpty());
        QVERIFY(session.checkpoint()); // the one before is still there
        session.open(folder_.filePath("absent.safetensors"));
        QVERIFY(failed.wait(5000));
    }

    void measuresEveryTensorInEveryFormat() {
        Session session;
        session.setFormats(parse_specs("bf16,nf4,int8"));
        QVERIFY(open(session, small_));
        QSignalSpy progress(&session, &Session::progressChanged);
        session.analyse();
        QVERIFY(session.running());
        QVERIFY(settled(session));
        QVERIFY(progress.count() >= 2);
        QCOMPARE(session.progress().done, session.progress().total);
        for (const std::size_t tensor : session.coverage().tensors)
            for (const FormatSpec& spec : session.formats()) {
                const FormatResult* result = session.result(tensor, spec);
                QVERIFY(result != nullptr);
                const FormatResult truth = expected(session, tensor, spec);
                QCOMPARE(result->sums.sum_d2, truth.sums.sum_d2);
                QCOMPARE(result->bits_per_weight(), truth.bits_per_weight());
                QCOMPARE(result->code_entropy(), truth.code_entropy());
            }
        QVERIFY(session.report(session.coverage().skipped.front().tensor) == nullptr);

        const ModelReport& model = session.model();
        QCOMPARE(model.model.size(), std::size_t(3));
        QCOMPARE(model.model[1].spec, parse_spec("nf4"));
        QCOMPARE(model.model[1].tensors, std::uint64_t(16));
        QCOMPARE(model.layers.size(), std::size_t(2));
        double squared = 0;
        for (const std::size_t tensor : session.coverage().tensors)
            squared += session.result(tensor, parse_spec("nf4"))->sums.sum_d2;
        QVERIFY(std::abs(model.model[1].total.sums.sum_d2 / squared - 1) < 1e-12);
    }

    void measuresOnlyWhatIsMissing() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        QVERIFY(open(session, small_));
        session.analyse();
        QVERIFY(settled(session));
        const std::size_t tensor = session.coverage().tensors.front();

        session.analyse(); // nothing is missing
        QVERIFY(!session.running());

        session.setFormats(parse_specs("nf4,int4"));
        QVERIFY(session.result(tensor, parse_spec("nf4")) != nullptr);
        QVERIFY(session.result(tensor, parse_spec("int4")) == nullptr);
        QCOMPARE(session.model().model.size(), std::size_t(2));
        QCOMPARE(session.model().model[1].tensors, std::uint64_t(0));
        session.analyse();
        QVERIFY(settled(session));
        QCOMPARE(session.report(tensor)->results.size(), std::size_t(2));
        QCOMPARE(session.result(tensor, parse_spec("int4"))->sums.sum_d2,
                 expected(session, tensor, parse_spec("int4")).sums.sum_d2);
    }

    void dropsRemovedFormats() {
        Session session;
        session.setFormats(parse_specs("bf16,nf4,int4"));
        QVERIFY(open(session, small_));
        session.analyse();
        QVERIFY(settled(session));
        session.selectFormat(2);
        const double nf4 = session.model().model[1].total.sums.sum_d2;

        QSignalSpy selected(&session, &Session::formatSelected);
        session.setFormats(parse_specs("int4,nf4"));
        QCOMPARE(session.selectedFormat(), std::size_t(0)); // int4 stays selected where it is now
        QCOMPARE(selected.count(), 1);
        QCOMPARE(session.model().model.size(), std::size_t(2));
        QCOMPARE(session.model().model[1].total.sums.sum_d2, nf4);
        for (const std::size_t tensor : session.coverage().tensors)
            QCOMPARE(session.report(tensor)->results.size(), std::size_t(2));
        QVERIFY(session.result(session.coverage().tensors.front(), parse_spec("bf16")) == nullptr);
    }

    void selectsWithinBounds() {
        Session session;
        session.setFormats(parse_specs("nf4,nf4,int4"));
        QCOMPARE(session.formats().size(), std::size_t(2)); // the same format twice is one
        QVERIFY(open(session, small_));
        QSignalSpy selected(&session, &Session::tensorSelected);
        session.selectTensor(3);
        session.selectTensor(3);
        QCOMPARE(selected.count(), 1);
        session.selectTensor(10000);
        QVERIFY(!session.selectedTensor());
        session.selectFormat(7);
        QCOMPARE(session.selectedFormat(), std::size_t(0));
    }

    void selectsAWeightOfTheTensor() {
        Session session;
        QVERIFY(open(session, small_));
        QSignalSpy selected(&session, &Session::elementSelected);
        session.selectElement(5); // of no tensor
        QVERIFY(!session.selectedElement());
        session.selectTensor(3);
        const std::uint64_t last = session.checkpoint()->tensors[3].elements() - 1;
        session.selectElement(last);
        session.selectElement(last);
        QCOMPARE(session.selectedElement(), std::optional(last));
        QCOMPARE(selected.count(), 1);
        session.selectElement(last + 1);
        QVERIFY(!session.selectedElement());
        session.selectElement(0);
        session.selectTensor(2);
        QVERIFY(!session.selectedElement());
    }

    void cancelAnswersAtOnce() {
        Session session;
        session.setFormats(parse_specs("nf4,int4,fp8_e4m3,q4_0,q8_0"));
        QVERIFY(open(session, big_));
        session.analyse();
        QVERIFY(QTest::qWaitFor([&] { return session.progress().done > 0; }, 5000));
        QElapsedTimer clock;
        clock.start();
        session.cancel();
        QVERIFY(!session.running());
        QVERIFY2(clock.elapsed() < 100, qPrintable(QString::number(clock.elapsed())));

        // Nothing comes in any more.
        const auto measured = [&] {
            return std::ranges::count_if(session.coverage().tensors,
                                         [&](std::size_t tensor) { return session.report(tensor) != nullptr; });
        };
        const auto before = measured();
        QTest::qWait(300);
        QCOMPARE(measured(), before);
        QVERIFY(before < static_cast<long>(session.coverage().tensors.size()));

        // And the rest can be measured later.
        session.analyse();
        QVERIFY(settled(session));
        QCOMPARE(measured(), static_cast<long>(session.coverage().tensors.size()));
    }

    void closesQuicklyWhileRunning() {
        auto session = std::make_unique<Session>();
        session->setFormats(parse_specs("nf4,int4,fp8_e4m3,q4_0,q8_0"));
        QVERIFY(open(*session, big_));
        session->analyse();
        QTest::qWait(30);
        QElapsedTimer clock;
        clock.start();
        session.reset();
        QVERIFY2(clock.elapsed() < 300, qPrintable(QString::number(clock.elapsed())));
    }

    void changingFormatsWhileRunningGoesOn() {
        Session session;
        session.setFormats(parse_specs("nf4,int4"));
        QVERIFY(open(session, big_));
        session.analyse();
        QTest::qWait(40);
        session.setFormats(parse_specs("nf4,q8_0"));
        QVERIFY(session.running());
        QVERIFY(settled(session));
        for (const std::size_t tensor : session.coverage().tensors) {
            QCOMPARE(session.report(tensor)->results.size(), std::size_t(2));
            QVERIFY(session.result(tensor, parse_spec("q8_0")) != nullptr);
        }
    }

    void openingAnotherEndsTheRun() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        QVERIFY(open(session, big_));
        session.analyse();
        QVERIFY(open(session, small_));
        QVERIFY(!session.running());
        QVERIFY(!session.measured());
        QTest::qWait(200);
        QVERIFY(!session.measured()); // the old run delivers nothing into the new document
    }

    void anAnalysisWaitsForTheDevice() {
        Session session;
        session.setFormats(parse_specs("nf4"));
        QVERIFY(open(session, small_));
        session.setDevice("cpu");
        session.analyse(); // waits for the device
        QVERIFY(session.running());
        QVERIFY(settled(session));
    }

    void batchesAreNotTooOften() {
        Session session;
        session.setFormats(parse_specs("nf4,int8,int4"));
        QVERIFY(open(session, big_));
        QSignalSpy results(&session, &Session::resultsChanged);
        QElapsedTimer clock;
        clock.start();
        session.analyse();
        QVERIFY(settled(session));
        // Thirty batches and thirty sums a second at most, and the last of each.
        QVERIFY(results.count() <= 2 * (clock.elapsed() / 33 + 2));
    }
};

QTEST_MAIN(GuiSessionTest)
#include "gui_frame_session.moc"
