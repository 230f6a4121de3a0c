#include "app/gui/plot/Ticks.h"

#include <array>
#include <cmath>

#include "app/gui/Numbers.h"

namespace qs::gui {

namespace {

/// The smallest of 1, 2, 5 times a power of ten that is at least `wanted`.
double roundUp(double wanted) {
    const double power = std::pow(10, std::floor(std::log10(wanted)));
    for (const double factor : {1.0, 2.0, 5.0})
        if (factor * power >= wanted * (1 - 1e-9))
            return factor * power;
    return 10 * power;
}

int decimalsOf(double step) {
    return std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
}

QString fixed(double value, double step) {
    if (step <= 0)
        return QString::number(value, 'g', 10);
    return QString::number(value, 'f', decimalsOf(step));
}

/// "1.5·10⁻⁵", with the mantissa left out where it is 1.
QString scientific(double magnitude, double step) {
    const int exponent = static_cast<int>(std::floor(std::log10(magnitude) + 1e-9));
    const double power = std::pow(10, exponent);
    const QString mantissa = fixed(magnitude / power, step <= 0 ? 0 : step / power);
    // significant() of a power of ten ends in "·10ⁿ": its own way of writing the exponent.
    const QString ten = exponent >= -3 && exponent < 6 ? QString() : significant(power);
    const QString tail = ten.mid(ten.indexOf(u'·') + 1);
    return mantissa == "1" ? tail : mantissa + u'·' + tail;
}

QString withSign(double value, const QString& magnitude) {
    return value < 0 ? QChar(0x2212) + magnitude : magnitude;
}

} // namespace

QString plainTick(double value, double step) {
    const double magnitude = std::abs(value);
    if (magnitude == 0 || (step > 0 && magnitude < step / 1000))
        return QStringLiteral("0");
    if (magnitude < 9.99e-4 || magnitude > 0.999e6)
        return withSign(value, scientific(magnitude, step));
    return withSign(value, fixed(magnitude, step));
}

QString countTick(double value, double step) {
    struct Unit {
        double size;
        const char* name;
    };
    static constexpr std::array<Unit, 4> units = {{{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}}};
    const double magnitude = std::abs(value);
    if (magnitude >= 0.9999e4)
        for (const Unit& unit : units)
            if (magnitude >= unit.size * 0.9999)
                return withSign(value, fixed(magnitude / unit.size, step / unit.size)) + thin_space + unit.name;
    return plainTick(value, step);
}

RoundTicker::RoundTicker(TickText text, int most) : text_(std::move(text)), most_(most) {}

double RoundTicker::getTickStep(const QCPRange& range) {
    return step_ = roundUp(range.size() / most_);
}

int RoundTicker::getSubTickCount(double tickStep) {
    const double mantissa = tickStep / std::pow(10, std::floor(std::log10(tickStep) + 1e-9));
    return mantissa > 1.5 && mantissa < 2.5 ? 3 : 4;
}

QString RoundTicker::getTickLabel(double tick, const QLocale&, QChar, int) {
    return text_(tick, step_);
}

LogTicker::LogTicker(TickText text) : text_(std::move(text)) {}

void LogTicker::generate(const QCPRange& range, const QLocale& locale, QChar formatChar, int precision,
                         QVector<double>& ticks, QVector<double>* subTicks, QVector<QString>* tickLabels) {
    ticks.clear();
    if (!(range.lower > 0) || !(range.upper > range.lower))
        return;
    const int first = static_cast<int>(std::floor(std::log10(range.lower)));
    const int last = static_cast<int>(std::ceil(std::log10(range.upper)));
    const double decades = std::log10(range.upper / range.lower);
    if (decades < 0.7) {
        RoundTicker(text_, 6).generate(range, locale, formatChar, precision, ticks, subTicks, tickLabels);
        return;
    }
    const int stride = std::max(1, static_cast<int>(std::ceil(decades / 7)));
    QVector<double> minor;
    for (int exponent = first; exponent <= last; ++exponent) {
        const double power = std::pow(10, exponent);
        for (int digit = 1; digit < 10; ++digit) {
            const bool labelled = digit == 1 ? exponent % stride == 0 : decades < 2.2 && (digit == 2 || digit == 5);
            if (range.contains(digit * power))
                (labelled ? ticks : minor).append(digit * power);
        }
    }
    if (subTicks)
        *subTicks = stride == 1 ? minor : QVector<double>();
    if (tickLabels) {
        tickLabels->clear();
        for (const double tick : ticks)
            tickLabels->append(text_(tick, 0));
    }
}

IndexTicker::IndexTicker(int first, int last, TickText text, int most, int origin)
    : first_(first), last_(last), most_(most), origin_(origin), text_(std::move(text)) {}

void IndexTicker::generate(const QCPRange& range, const QLocale&, QChar, int, QVector<double>& ticks,
                           QVector<double>* subTicks, QVector<QString>* tickLabels) {
    ticks.clear();
    const int from = std::max(first_, static_cast<int>(std::ceil(range.lower)));
    const int to = std::min(last_, static_cast<int>(std::floor(range.upper)));
    const int step = to - from < most_ ? 1 : static_cast<int>(roundUp(static_cast<double>(to - from + 1) / most_));
    for (int index = from; index <= to; ++index) {
        const bool end = index == first_ || index == last_;
        const bool apart = index - first_ >= step && last_ - index >= step;
        if (end || (apart && (index - origin_) % step == 0))
            ticks.append(index);
    }
    if (subTicks)
        subTicks->clear();
    if (tickLabels) {
        tickLabels->clear();
        for (const double tick : ticks)
            tickLabels->append(text_(tick, step));
    }
}

} // namespace qs::gui
