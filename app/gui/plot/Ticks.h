#pragma once

#include <qcustomplot.h>

#include <functional>

namespace qs::gui {

/// Writes a tick; `step` is the distance between ticks, 0 on a logarithmic axis.
using TickText = std::function<QString(double value, double step)>;

/// As few digits as the step needs, a true minus sign, 10ⁿ for what is very small or large.
QString plainTick(double value, double step);
/// Like plainTick(), with k, M, B, T from 10 000 on.
QString countTick(double value, double step);

/// Round ticks, at most eight of them, written by a function.
class RoundTicker : public QCPAxisTicker {
public:
    explicit RoundTicker(TickText text, int most = 8);

protected:
    double getTickStep(const QCPRange& range) override;
    int getSubTickCount(double tickStep) override;
    QString getTickLabel(double tick, const QLocale& locale, QChar formatChar, int precision) override;

private:
    TickText text_;
    int most_;
    double step_ = 0;
};

/// Powers of ten, at most eight (every second or third where there are more); 1, 2, 5 where the range spans less than
/// two decades.
class LogTicker : public QCPAxisTicker {
public:
    explicit LogTicker(TickText text);

    void generate(const QCPRange& range, const QLocale& locale, QChar formatChar, int precision, QVector<double>& ticks,
                  QVector<double>* subTicks, QVector<QString>* tickLabels) override;

private:
    TickText text_;
};

/// Whole numbers only, the first, the last and at most `most` between, counted from `origin`; names from a function
/// (layers, rows of a map).
class IndexTicker : public QCPAxisTicker {
public:
    IndexTicker(int first, int last, TickText text, int most = 6, int origin = 0);

    void generate(const QCPRange& range, const QLocale& locale, QChar formatChar, int precision, QVector<double>& ticks,
                  QVector<double>* subTicks, QVector<QString>* tickLabels) override;

private:
    int first_, last_, most_, origin_;
    TickText text_;
};

} // namespace qs::gui
