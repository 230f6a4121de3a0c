#pragma once

#include <QColor>
#include <QObject>
#include <QString>

#include "core/formats/format_spec.h"

namespace qs::gui {

/// The colours of the two themes (DESIGN.md) and of the formats. One instance, UI thread.
class Theme : public QObject {
    Q_OBJECT
public:
    enum class Mode { system, light, dark };
    static Theme& instance();

    void setMode(Mode mode); ///< applies palette and style sheet to the application
    Mode mode() const { return mode_; }
    bool dark() const { return dark_; }

    QColor background() const; ///< of plots
    QColor panel() const;
    QColor text() const;
    QColor mutedText() const;
    QColor grid() const;
    QColor original() const; ///< the unquantized weights
    QColor accent() const;

    /// The one colour of a format: a shade of the family's hue by the format's place in the family and the spec's
    /// parameters; readable on both themes.
    QColor format(const FormatSpec& spec) const;
    /// Perceptual sequential map, t in 0 … 1 (low … high).
    static QColor sequential(double t);

signals:
    void changed();

private:
    Theme();
    Mode mode_ = Mode::system;
    bool dark_ = false;
};

} // namespace qs::gui
