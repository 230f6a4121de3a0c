#pragma once

#include <deque>
#include <utility>

namespace qs {

/// How far a run over stored weights is, and how fast it goes.
struct Throughput {
    double done = 0, total = 0;  ///< bytes
    double weights = 0;          ///< in `total` bytes
    double seconds = 0;          ///< since it began
    double bytes_per_second = 0; ///< lately; of a run that has ended on average

    double weights_per_second() const;
    double seconds_left() const; ///< 0 while nothing is known of it
    /// Of what a memory allows that is read at `read_gbps` (10⁹ bytes a second); NaN where either is not known.
    double share_of(double read_gbps) const;
};

/// Average rate of a run that has taken `seconds` for `bytes`; 0 before it has taken any.
double mean_rate(double bytes, double seconds);

/// Bytes a second over the last three seconds: follows changes without trembling.
class RecentRate {
public:
    /// `bytes` done `seconds` after the beginning.
    void sample(double seconds, double bytes);
    double bytes_per_second() const; ///< 0 before there are two samples

private:
    std::deque<std::pair<double, double>> samples_;
};

} // namespace qs
