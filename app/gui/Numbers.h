#pragma once

#include <QString>

/// Numbers as the screen shows them (DESIGN.md, "Type and numbers"): three significant digits, SI prefixes, a thin
/// space before the unit, a true minus sign. Copies and exports use full().
namespace qs::gui {

/// U+2009, between a number and its unit.
inline constexpr QChar thin_space(0x2009);

/// `digits` significant digits: "0.0123", "12.3", "12 300"; below 10⁻³ and from 10⁶ as "8.20·10⁻⁶".
/// "NaN", "∞" and "−∞" where that is what it is.
QString significant(double value, int digits = 3);
/// With an SI prefix from p to P: si(11.8e9, "B/s") is "11.8 GB/s".
QString si(double value, const QString& unit);
/// Decimal bytes: "13.5 GB" is 13.5·10⁹; whole below 1000.
QString bytes(double value);
/// A count of things: whole below 10 000, then "13.5 k", "6.74 M", "6.74 B", "1.04 T".
QString count(double value);
/// A share in per cent: "0.27 %".
QString percent(double share);
/// The shortest text that reads back as the same number.
QString full(double value);
/// A duration: "0.8 s", "12 s", "2 min 05 s", "1 h 02 min".
QString duration(double seconds);

} // namespace qs::gui
