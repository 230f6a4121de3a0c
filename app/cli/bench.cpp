#include <fmt/format.h>

#include <mutex>
#include <set>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/table.h"
#include "core/formats/registry.h"

namespace qs::cli {

namespace {

struct Options {
    std::string formats;
    DeviceOptions device;
    bool json = false;
};

struct Bench {
    DeviceInfo device;
    double read_gbps = 0;
    std::vector<BenchResult> results;
};

std::vector<FormatSpec> all_formats() {
    std::vector<FormatSpec> specs;
    for (const Format& format : formats())
        specs.push_back(parse_spec(format.id));
    return specs;
}

/// One thread and all of them; a GPU does its own.
std::set<int> thread_counts(const DeviceInfo& info) {
    return info.kind == "cpu" ? std::set<int>{1, info.threads} : std::set<int>{1};
}

/// What is being measured, told from the working thread to the one that shows it.
class Doing {
public:
    void set(std::string text) {
        const std::lock_guard lock(mutex_);
        text_ = std::move(text);
    }
    std::string get() const {
        const std::lock_guard lock(mutex_);
        return text_;
    }

private:
    mutable std::mutex mutex_;
    std::string text_;
};

Bench run(const Options& options) {
    const auto specs = options.formats.empty() ? all_formats() : parse_formats_option("--formats", options.formats);
    const auto device = options.device.make();
    Bench bench{device->info(), 0, {}};
    const std::set<int> counts = thread_counts(bench.device);
    Doing doing;
    RunningJob running([&doing] { return doing.get(); });
    doing.set("measuring the read bandwidth");
    bench.read_gbps = device->measure_read_gbps(*counts.rbegin(), running.job);
    for (const FormatSpec& spec : specs)
        for (const char* operation : {"encode", "encode+error"})
            for (const int threads : counts) {
                doing.set(fmt::format("measuring {} {}, {} of {}", spec.text(), operation, bench.results.size() + 1,
                                      specs.size() * 2 * counts.size()));
                bench.results.push_back(device->bench(spec, operation, threads, running.job));
            }
    return bench;
}

Json document(const Bench& bench) {
    Json json{{"device", bench.device.id},
              {"device_name", bench.device.name},
              {"read_gbps", json_number(bench.read_gbps)},
              {"results", Json::array()}};
    for (const BenchResult& result : bench.results)
        json["results"].push_back({{"format", result.format},
                                   {"operation", result.operation},
                                   {"threads", result.threads},
                                   {"weights_per_second", json_number(result.weights_per_second)},
                                   {"input_gbps", json_number(result.input_gbps)},
                                   {"fraction_of_read", json_number(result.input_gbps / bench.read_gbps)}});
    return json;
}

std::string text(const Bench& bench) {
    Table table({{"format"}, {"operation"}, {"threads", true}, {"weights/s", true}, {"GB/s", true}, {"of read", true}});
    for (const BenchResult& result : bench.results)
        table.add({result.format, result.operation, std::to_string(result.threads), si(result.weights_per_second),
                   fixed(result.input_gbps, 2), fixed(100 * result.input_gbps / bench.read_gbps, 1) + " %"});
    return fmt::format("{}: memory is read at {:.2f} GB/s\n\n{}", bench.device.name, bench.read_gbps, table.text());
}

} // namespace

void add_bench(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("bench", "Throughput of each format beside the memory's, measured now");
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_option("--formats", options->formats, "Formats to measure (default: all)")->type_name("LIST");
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const Bench bench = run(*options);
            options->json ? print(document(bench)) : print(text(bench));
        };
    });
}

} // namespace qs::cli
