#include "app/gui/Numbers.h"

#include <QLocale>

#include <algorithm>
#include <array>
#include <cmath>

namespace qs::gui {

namespace {

const QChar minus(0x2212);

QString superscript(int exponent) {
    static const QString digits = QStringLiteral("⁰¹²³⁴⁵⁶⁷⁸⁹");
    QString text = exponent < 0 ? QStringLiteral("⁻") : QString();
    for (const QChar digit : QString::number(std::abs(exponent)))
        text += digits[digit.digitValue()];
    return text;
}

/// The decimal exponent after rounding to `digits` significant digits, so that 999.9 counts as 1000.
int rounded_exponent(double magnitude, int digits) {
    const QString text = QString::number(magnitude, 'e', digits - 1);
    return text.mid(text.indexOf('e') + 1).toInt();
}

/// "12300" to "12 300"; only the integer part, and only from five digits on.
QString grouped(QString text) {
    const qsizetype point = text.indexOf('.');
    const qsizetype integer = point < 0 ? text.size() : point;
    if (integer < 5)
        return text;
    for (qsizetype place = integer - 3; place > 0; place -= 3)
        text.insert(place, thin_space);
    return text;
}

QString special(double value) {
    if (std::isnan(value))
        return QStringLiteral("NaN");
    return value > 0 ? QStringLiteral("∞") : QStringLiteral("−∞");
}

QString signed_text(double value, const QString& magnitude) {
    return value < 0 ? minus + magnitude : magnitude;
}

/// Plain digits of a number already rounded to `digits` significant ones.
QString plain(double magnitude, int exponent, int digits) {
    const double rounded = QString::number(magnitude, 'e', digits - 1).toDouble();
    return grouped(QString::number(rounded, 'f', std::max(0, digits - 1 - exponent)));
}

} // namespace

QString significant(double value, int digits) {
    if (!std::isfinite(value))
        return special(value);
    if (value == 0)
        return QStringLiteral("0");
    const double magnitude = std::abs(value);
    const int exponent = rounded_exponent(magnitude, digits);
    if (exponent >= -3 && exponent < 6)
        return signed_text(value, plain(magnitude, exponent, digits));
    const QString text = QString::number(magnitude, 'e', digits - 1);
    return signed_text(value, text.left(text.indexOf('e')) + QStringLiteral("·10") + superscript(exponent));
}

QString si(double value, const QString& unit) {
    static const std::array<QString, 10> prefixes = {"p", "n", "µ", "m", "", "k", "M", "G", "T", "P"};
    constexpr int no_prefix = 4;
    if (!std::isfinite(value))
        return special(value) + thin_space + unit;
    const int exponent = value == 0 ? 0 : rounded_exponent(std::abs(value), 3);
    const int step = static_cast<int>(std::floor(exponent / 3.0));
    const int chosen = std::clamp(step + no_prefix, 0, static_cast<int>(prefixes.size()) - 1);
    const double scaled = value / std::pow(1000.0, chosen - no_prefix);
    return significant(scaled) + thin_space + prefixes[static_cast<std::size_t>(chosen)] + unit;
}

QString bytes(double value) {
    if (std::abs(value) < 1000)
        return signed_text(value, QString::number(std::round(std::abs(value)))) + thin_space + 'B';
    return si(value, QStringLiteral("B"));
}

QString count(double value) {
    static const std::array<QString, 5> names = {"", "k", "M", "B", "T"};
    if (!std::isfinite(value))
        return special(value);
    const double magnitude = std::abs(value);
    if (magnitude < 10000)
        return signed_text(value, QString::number(std::round(magnitude)));
    const int step = std::min(rounded_exponent(magnitude, 3) / 3, static_cast<int>(names.size()) - 1);
    return significant(value / std::pow(1000.0, step)) + thin_space + names[static_cast<std::size_t>(step)];
}

QString percent(double share) {
    return significant(100 * share) + thin_space + '%';
}

QString full(double value) {
    return std::isfinite(value) ? QString::number(value, 'g', QLocale::FloatingPointShortest) : special(value);
}

QString duration(double seconds) {
    if (!std::isfinite(seconds))
        return special(seconds);
    if (seconds < 9.95)
        return QString::number(seconds, 'f', 1) + thin_space + 's';
    const auto whole = static_cast<long long>(std::llround(seconds));
    const auto two = [](long long number) { return QStringLiteral("%1").arg(number, 2, 10, QChar('0')); };
    if (whole < 60)
        return QString::number(whole) + thin_space + 's';
    if (whole < 3600)
        return QString::number(whole / 60) + thin_space + "min " + two(whole % 60) + thin_space + 's';
    return QString::number(whole / 3600) + thin_space + "h " + two(whole / 60 % 60) + thin_space + "min";
}

} // namespace qs::gui
