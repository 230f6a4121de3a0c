#pragma once

#include <QTemporaryDir>
#include <QTest>

#include <stdexcept>

#include "app/gui/Session.h"
#include "app/gui/views/View.h"
#include "core/formats/registry.h"
#include "gui_frame_files.h"

namespace qs::gui {

inline constexpr int patience_ms = 30000;

/// A session on a small decoder written into a folder of its own, with these formats and the first layer's query
/// projection selected.
struct OpenSession {
    explicit OpenSession(const std::string& formats, const std::vector<TestTensor>& tensors = decoder(3, 64)) {
        const QString path = folder.filePath("model.safetensors");
        writeSafetensors(path, tensors);
        session.setFormats(parse_specs(formats));
        session.open(path);
        if (!QTest::qWaitFor([this] { return session.checkpoint() != nullptr; }, patience_ms))
            throw std::runtime_error("the checkpoint did not open");
        select("model.layers.0.self_attn.q_proj.weight");
    }

    void select(const std::string& name) { session.selectTensor(session.checkpoint()->find(name)); }
    const TensorInfo& selected() const { return session.checkpoint()->tensors[*session.selectedTensor()]; }
    TensorView view() const { return view_of(*session.checkpoint(), selected()); }
    bool analyse() {
        session.analyse();
        return QTest::qWaitFor([this] { return !session.running(); }, patience_ms);
    }

    QTemporaryDir folder;
    Session session;
};

/// Shows a view at a size and waits until it has nothing left to do.
inline bool showAndSettle(View& view, QSize size = {760, 640}) {
    view.resize(size);
    view.show();
    return QTest::qWaitForWindowExposed(&view) && QTest::qWaitFor([&view] { return view.settled(); }, patience_ms) &&
           (QTest::qWait(30), true);
}

inline bool settle(View& view) {
    QTest::qWait(20);
    return QTest::qWaitFor([&view] { return view.settled(); }, patience_ms) && (QTest::qWait(30), true);
}

inline const QCPGraph* graphNamed(const QCPAxisRect* pane, const QString& name) {
    for (const QCPGraph* graph : pane->graphs())
        if (graph->name() == name)
            return graph;
    return nullptr;
}

/// A point of the plot widget that lies on the name of an axis.
inline QPoint onAxisName(const Plot& plot, const QCPAxis* axis) {
    for (int y = 0; y < plot.height(); y += 2)
        for (int x = 0; x < plot.width(); x += 2)
            if (axis->getPartAt(QPointF(x, y)) == QCPAxis::spAxisLabel)
                return {x, y};
    return {};
}

inline void moveMouse(QWidget& widget, QPoint position, Qt::MouseButtons buttons = Qt::NoButton) {
    QMouseEvent event(QEvent::MouseMove, position, widget.mapToGlobal(position), Qt::NoButton, buttons, {});
    QCoreApplication::sendEvent(&widget, &event);
}

inline void turnWheel(QWidget& widget, QPoint position, int notches) {
    QWheelEvent event(position, widget.mapToGlobal(position), {}, {0, 120 * notches}, Qt::NoButton, {},
                      Qt::NoScrollPhase, false);
    QCoreApplication::sendEvent(&widget, &event);
}

} // namespace qs::gui
