#include "core/analysis/throughput.h"

#include <limits>

namespace qs {

double Throughput::weights_per_second() const {
    return total > 0 ? bytes_per_second * weights / total : 0;
}

double Throughput::seconds_left() const {
    return bytes_per_second > 0 ? (total - done) / bytes_per_second : 0;
}

double Throughput::share_of(double read_gbps) const {
    if (read_gbps <= 0 || bytes_per_second <= 0)
        return std::numeric_limits<double>::quiet_NaN();
    return bytes_per_second / (1e9 * read_gbps);
}

double mean_rate(double bytes, double seconds) {
    return seconds > 0 ? bytes / seconds : 0;
}

void RecentRate::sample(double seconds, double bytes) {
    constexpr double window = 3;
    samples_.emplace_back(seconds, bytes);
    while (samples_.size() > 2 && samples_.front().first < seconds - window)
        samples_.pop_front();
}

double RecentRate::bytes_per_second() const {
    if (samples_.size() < 2)
        return 0;
    return mean_rate(samples_.back().second - samples_.front().second, samples_.back().first - samples_.front().first);
}

} // namespace qs
