#include "core/device/device_group.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>
#include <tuple>

#include "core/base/parallel.h"

namespace qs {

namespace {

/// "2 x A + B" of A, B, A.
std::string joined_names(const std::vector<DeviceInfo>& members) {
    std::vector<std::pair<std::string, int>> names;
    for (const DeviceInfo& member : members) {
        const auto known = std::ranges::find(names, member.name, &std::pair<std::string, int>::first);
        if (known == names.end())
            names.emplace_back(member.name, 1);
        else
            ++known->second;
    }
    std::string text;
    for (const auto& [name, count] : names)
        text += (text.empty() ? "" : " + ") + (count == 1 ? name : std::to_string(count) + " x " + name);
    return text;
}

/// "8.0, 9.0" of all that the members have.
std::string joined_capabilities(const std::vector<DeviceInfo>& members) {
    std::vector<std::string> seen;
    std::string text;
    for (const DeviceInfo& member : members) {
        if (std::ranges::find(seen, member.compute_capability) != seen.end())
            continue;
        seen.push_back(member.compute_capability);
        text += (text.empty() ? "" : ", ") + member.compute_capability;
    }
    return text;
}

/// Which member does a call.
class Schedule {
public:
    /// Calls that a member takes at once: while it works for one, the host prepares the other.
    static constexpr std::size_t calls_at_once = 2;

    explicit Schedule(std::size_t members) : loads_(members) {}

    /// The member for `tensor`, or for a call that has none; to be told to end() when it is done.
    std::size_t begin(const TensorView* tensor) {
        const std::lock_guard lock(mutex_);
        // Memory outside a file may hold another tensor the next time.
        const bool stays = tensor != nullptr && tensor->file != nullptr;
        const auto home = stays ? homes_.find(tensor->data) : homes_.end();
        const bool at_home = home != homes_.end() && loads_[home->second].calls < calls_at_once;
        const std::size_t member = at_home ? home->second : least_loaded();
        if (stays && !at_home) {
            homes_[tensor->data] = member;
            loads_[member].weights += tensor->shape.count();
        }
        ++loads_[member].calls;
        return member;
    }

    void end(std::size_t member) {
        const std::lock_guard lock(mutex_);
        --loads_[member].calls;
    }

private:
    struct Load {
        std::size_t calls = 0;
        std::uint64_t weights = 0; ///< of the tensors it was the first to get
    };

    /// Of members with equally many calls the one that was given the fewest weights, so that tensors that are looked at
    /// one by one spread over the memory of all.
    std::size_t least_loaded() const {
        const auto least =
            std::ranges::min_element(loads_, {}, [](const Load& load) { return std::tuple(load.calls, load.weights); });
        return static_cast<std::size_t>(least - loads_.begin());
    }

    std::mutex mutex_;
    std::vector<Load> loads_;
    /// By where a tensor is mapped. What an address that is mapped anew once held does no harm: a member is as good as
    /// another, but for a copy.
    std::map<const std::byte*, std::size_t> homes_;
};

class DeviceGroup final : public Device {
public:
    explicit DeviceGroup(std::vector<std::unique_ptr<Device>> members)
        : members_(std::move(members)), schedule_(members_.size()) {}

    DeviceInfo info() const override {
        std::vector<DeviceInfo> infos;
        for (const auto& member : members_)
            infos.push_back(member->info());
        return group_info(infos);
    }

    void for_each(std::size_t count, const std::function<void(std::size_t)>& body) override {
        for_each_on_threads(count, members_.size() * Schedule::calls_at_once, body);
    }

    TensorReport analyze(const TensorView& tensor, std::span<const FormatSpec> specs, JobControl& job) override {
        const Call call(*this, &tensor);
        return call.member.analyze(tensor, specs, job);
    }

    HistogramSet histogram(const TensorView& tensor, std::span<const FormatSpec> specs, double low, double high,
                           std::size_t bins, JobControl& job) override {
        const Call call(*this, &tensor);
        return call.member.histogram(tensor, specs, low, high, bins, job);
    }

    double quantize(const float* weights, const TensorShape& shape, const FormatSpec& spec, const float* importance,
                    std::uint16_t* codes, float* decoded, JobControl& job) override {
        const Call call(*this, nullptr);
        return call.member.quantize(weights, shape, spec, importance, codes, decoded, job);
    }

    Algebra& algebra() override { return members_.front()->algebra(); }

    LayerMath* layer_math() override { return members_.front()->layer_math(); }

    void give_up_layer_math(const std::string& reason) override { members_.front()->give_up_layer_math(reason); }

    double measure_read_gbps(int threads, JobControl& job) override {
        double sum = 0;
        for (const auto& member : members_)
            sum += member->measure_read_gbps(threads, job);
        return sum;
    }

    double measure_copy_gbps(JobControl& job) override {
        // All at once: they share the host's memory.
        std::vector<double> rates(members_.size());
        for_each_on_threads(rates.size(), rates.size(),
                            [&](std::size_t i) { rates[i] = members_[i]->measure_copy_gbps(job); });
        return std::accumulate(rates.begin(), rates.end(), 0.0);
    }

    BenchResult bench(std::span<const FormatSpec> specs, const std::string& operation, int threads,
                      JobControl& job) override {
        return members_.front()->bench(specs, operation, threads, job);
    }

    std::vector<std::string> notes() const override {
        std::vector<std::string> all;
        for (const auto& member : members_)
            for (std::string& note : member->notes())
                all.push_back(std::move(note));
        return all;
    }

private:
    /// A call under way on the member that the schedule has chosen.
    struct Call {
        Call(DeviceGroup& group, const TensorView* tensor)
            : schedule(group.schedule_), number(schedule.begin(tensor)), member(*group.members_[number]) {}
        ~Call() { schedule.end(number); }
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;

        Schedule& schedule;
        std::size_t number;
        Device& member;
    };

    std::vector<std::unique_ptr<Device>> members_;
    Schedule schedule_;
};

} // namespace

DeviceInfo group_info(const std::vector<DeviceInfo>& members) {
    DeviceInfo info = members.front();
    info.id = info.kind;
    info.name = joined_names(members);
    info.compute_capability = joined_capabilities(members);
    info.memory_bytes = 0;
    info.threads = 0;
    for (const DeviceInfo& member : members) {
        info.memory_bytes += member.memory_bytes;
        info.threads += member.threads;
    }
    info.members = static_cast<int>(members.size());
    return info;
}

std::vector<DeviceInfo> with_gpu_group(std::vector<DeviceInfo> devices) {
    const auto is_gpu = [](const DeviceInfo& info) { return info.kind != "cpu"; };
    std::vector<DeviceInfo> usable;
    std::ranges::copy_if(devices, std::back_inserter(usable),
                         [&](const DeviceInfo& info) { return is_gpu(info) && info.usable; });
    if (usable.size() > 1)
        devices.insert(std::ranges::find_if(devices, is_gpu), group_info(usable));
    return devices;
}

std::unique_ptr<Device> make_device_group(std::vector<std::unique_ptr<Device>> members) {
    return std::make_unique<DeviceGroup>(std::move(members));
}

} // namespace qs
