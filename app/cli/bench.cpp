#include <fmt/format.h>

#include <algorithm>
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
    bool fused = false;
    bool json = false;
};

struct Bench {
    DeviceInfo device;
    double read_gbps = 0;
    double copy_gbps = 0; ///< from the host's memory to the device's; 0 where they are the same
    std::vector<BenchResult> results;
};

/// The rate that bounds an operation: of reading the device's memory, or of copying to it.
double bound_of(const Bench& bench, const BenchResult& result) {
    return result.operation.starts_with("stream") ? bench.copy_gbps : bench.read_gbps;
}

/// Measured in one pass unless formats are named.
constexpr const char* fused_by_default = "nf4,fp4,int8,q8_0,q4_0";

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

/// One row to measure.
struct Measurement {
    std::vector<FormatSpec> specs;
    std::string operation;
    int threads;
};

std::vector<Measurement> measurements(const Options& options, const DeviceInfo& device, const std::set<int>& counts) {
    const bool named = !options.formats.empty();
    const auto specs = named ? parse_formats_option("--formats", options.formats) : all_formats();
    std::vector<Measurement> list;
    const auto add = [&](const std::vector<FormatSpec>& together, const char* operation) {
        for (const int threads : counts)
            list.push_back({together, operation, threads});
    };
    if (!options.fused)
        for (const FormatSpec& spec : specs)
            for (const char* operation : {"encode", "decode", "encode+error"})
                add({spec}, operation);
    if (options.fused || !named) {
        const auto together = named ? specs : parse_specs(fused_by_default);
        add(together, "encode+error");
        if (device.kind != "cpu")
            add(together, "stream+error");
    }
    return list;
}

Bench run(const Options& options) {
    // Of several GPUs one: a share of the bandwidth of all would be none of its own.
    const auto device = options.device.make_one();
    Bench bench{device->info(), 0, 0, {}};
    const std::set<int> counts = thread_counts(bench.device);
    const auto list = measurements(options, bench.device, counts);
    Doing doing;
    RunningJob running([&doing] { return doing.get(); });
    const auto measure_reading = [&] {
        doing.set("measuring the read bandwidth");
        bench.read_gbps = std::max(bench.read_gbps, device->measure_read_gbps(*counts.rbegin(), running.job));
        bench.copy_gbps = std::max(bench.copy_gbps, device->measure_copy_gbps(running.job));
    };
    // Before and after, because neighbours of the machine come and go.
    measure_reading();
    for (const Measurement& next : list) {
        doing.set(fmt::format("measuring {} {}, {} of {}", next.specs[0].text(), next.operation,
                              bench.results.size() + 1, list.size()));
        bench.results.push_back(device->bench(next.specs, next.operation, next.threads, running.job));
    }
    measure_reading();
    return bench;
}

Json document(const Bench& bench) {
    Json json{{"device", bench.device.id},
              {"device_name", bench.device.name},
              {"read_gbps", json_number(bench.read_gbps)},
              {"copy_gbps", json_number(bench.copy_gbps)},
              {"results", Json::array()},
              {"skipped", Json::array()}};
    for (const BenchResult& result : bench.results) {
        Json row{{"format", result.format}, {"operation", result.operation}, {"threads", result.threads}};
        if (!result.skipped.empty()) {
            row["reason"] = result.skipped;
            json["skipped"].push_back(std::move(row));
            continue;
        }
        row["weights_per_second"] = json_number(result.weights_per_second);
        row["input_gbps"] = json_number(result.input_gbps);
        row["fraction_of_read"] = json_number(result.input_gbps / bench.read_gbps);
        if (result.operation.starts_with("stream"))
            row["fraction_of_copy"] = json_number(result.input_gbps / bench.copy_gbps);
        json["results"].push_back(std::move(row));
    }
    return json;
}

std::string text(const Bench& bench) {
    Table table(
        {{"format"}, {"operation"}, {"threads", true}, {"weights/s", true}, {"GB/s", true}, {"of bound", true}, {""}});
    for (const BenchResult& result : bench.results) {
        std::vector<std::string> row{result.format, result.operation, std::to_string(result.threads)};
        if (result.skipped.empty())
            row.insert(row.end(), {si(result.weights_per_second), fixed(result.input_gbps, 2),
                                   fixed(100 * result.input_gbps / bound_of(bench, result), 1) + " %", ""});
        else
            row.insert(row.end(), {"–", "–", "–", result.skipped});
        table.add(std::move(row));
    }
    const std::string copied =
        bench.copy_gbps > 0 ? fmt::format(", and copied to from the host at {:.2f} GB/s", bench.copy_gbps) : "";
    return fmt::format("{}: memory is read at {:.2f} GB/s{}\n\n{}", bench.device.name, bench.read_gbps, copied,
                       table.text());
}

} // namespace

void add_bench(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("bench", "Throughput of each format beside the memory's, measured now");
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_option("--formats", options->formats, "Formats to measure (default: all)")->type_name("LIST");
    command->add_flag(
        "--fused", options->fused,
        fmt::format("Measure the formats (default: {}) in one pass over the weights, nothing else", fused_by_default));
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const Bench bench = run(*options);
            options->json ? print(document(bench)) : print(text(bench));
        };
    });
}

} // namespace qs::cli
