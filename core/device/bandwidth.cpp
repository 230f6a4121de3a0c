#include "core/device/bandwidth.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cstddef>
#include <new>

#include "core/device/bench.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/bandwidth.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace qs {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Combines every byte of [begin, begin + bytes), a multiple of 256; `ahead` bytes are prefetched.
std::uint64_t read_all(const std::uint64_t* begin, std::size_t bytes, std::size_t ahead) {
    const hn::ScalableTag<std::uint64_t> d;
    const std::size_t step = hn::Lanes(d), words = bytes / 8;
    auto a = hn::Zero(d), b = a, c = a, e = a;
    for (std::size_t i = 0; i + 4 * step <= words; i += 4 * step) {
        if (ahead > 0)
            for (std::size_t line = 0; line < 4 * step; line += 8)
                hwy::Prefetch(reinterpret_cast<const char*>(begin + i + line) + ahead);
        a = hn::Xor(a, hn::Load(d, begin + i));
        b = hn::Xor(b, hn::Load(d, begin + i + step));
        c = hn::Xor(c, hn::Load(d, begin + i + 2 * step));
        e = hn::Xor(e, hn::Load(d, begin + i + 3 * step));
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Xor(hn::Xor(a, b), hn::Xor(c, e))));
}

} // namespace HWY_NAMESPACE
} // namespace qs
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qs {

HWY_EXPORT(read_all);

namespace {

constexpr std::size_t buffer_bytes = std::size_t{512} << 20;
constexpr std::size_t alignment = 4096;

struct Aligned {
    Aligned() : data(static_cast<std::uint64_t*>(::operator new(buffer_bytes, std::align_val_t(alignment)))) {
        // Written, so that every page is a real one.
        for (std::size_t i = 0; i < buffer_bytes / 8; ++i)
            data[i] = i;
    }
    ~Aligned() { ::operator delete(data, std::align_val_t(alignment)); }
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    std::uint64_t* data;
};

} // namespace

double measure_read_gbps(int threads, JobControl& job) {
    const Aligned buffer;
    const std::size_t parts = static_cast<std::size_t>(threads);
    const std::size_t part = buffer_bytes / parts / alignment * alignment;
    tbb::task_arena arena(threads);
    double best = 0;
    for (const std::size_t ahead : {std::size_t{0}, std::size_t{2048}}) {
        const double seconds = best_seconds(job, 0.3, [&] {
            arena.execute([&] {
                tbb::parallel_for(
                    std::size_t{0}, parts,
                    [&](std::size_t i) {
                        keep_result(static_cast<double>(
                            HWY_DYNAMIC_DISPATCH(read_all)(buffer.data + i * part / 8, part, ahead)));
                    },
                    tbb::static_partitioner());
            });
        });
        best = std::max(best, 1e-9 * static_cast<double>(part * parts) / seconds);
    }
    return best;
}

} // namespace qs
#endif
