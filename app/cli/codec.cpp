#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "app/cli/command.h"
#include "app/cli/running.h"
#include "app/cli/table.h"
#include "core/analysis/report_json.h"
#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/formats/registry.h"

namespace qs::cli {

namespace {

struct Options {
    std::string format, input, imatrix, dump;
    std::uint64_t rows = 0, columns = 0;
    DeviceOptions device;
    bool json = false;

    TensorShape shape() const { return {rows, columns}; }
};

/// A file of exactly `count` float32 values.
std::shared_ptr<const MappedFile> open_floats(const std::string& path, std::uint64_t count, const std::string& needs) {
    auto file = MappedFile::open(path);
    if (file->bytes().size() / 4 != count || file->bytes().size() % 4 != 0)
        throw Error(path, fmt::format("has {} bytes, but {} take {}", file->bytes().size(), needs, 4 * count));
    return file;
}

std::span<const float> floats_of(const MappedFile& file) {
    return {reinterpret_cast<const float*>(file.bytes().data()), file.bytes().size() / 4};
}

/// The importance of each column, checked: finite, not negative. Null where none is given.
std::shared_ptr<const MappedFile> open_imatrix(const Options& options) {
    if (options.imatrix.empty())
        return nullptr;
    auto file =
        open_floats(options.imatrix, options.columns, fmt::format("importances of {} columns", options.columns));
    for (std::size_t i = 0; const float importance : floats_of(*file)) {
        if (!std::isfinite(importance) || importance < 0)
            throw Error(options.imatrix, fmt::format("the importance of column {} is {}", i, importance),
                        "importances are finite and not negative");
        ++i;
    }
    return file;
}

/// The arrays that the format stores, each as a file named as its reference names it, and decoded.f32.
void dump(const Options& options, std::span<const float> weights, const FormatSpec& spec, const float* importance,
          Device& device, JobControl& job) {
    const TensorShape shape = options.shape();
    std::vector<float> decoded(weights.size());
    device.quantize(weights.data(), shape, spec, importance, nullptr, decoded.data(), job);
    const auto codec = bind_codec(spec, shape, importance);
    if (codec->needs_scan()) {
        codec->scan(weights.data(), 0, weights.size());
        codec->finish_scan();
    }
    const auto arrays = codec->store(weights.data());
    job.check();

    const std::filesystem::path folder = options.dump;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error)
        throw Error(folder.string(), "cannot be made: " + error.message());
    for (const StoredArray& array : arrays)
        write_file(folder / array.name, array.bytes);
    write_file(folder / "decoded.f32", std::as_bytes(std::span(decoded)));
}

struct Encoded {
    FormatResult result;
    Statistics statistics;
    std::uint64_t bytes = 0;
    Json notes; ///< of the device
};

/// What became of the importance matrix: "used", "ignored" by a format that has no use for it, or nothing.
std::string imatrix_use(const Options& options, const FormatResult& result) {
    if (options.imatrix.empty())
        return {};
    const FormatSpec& spec = result.fallback ? *result.fallback : result.spec;
    return format(spec.id).importance == Importance::unused ? "ignored" : "used";
}

Encoded run(const Options& options) {
    const FormatSpec spec = parse_format_option("--format", options.format);
    constexpr std::uint64_t most = std::uint64_t{1} << 40;
    if (options.rows > most / options.columns)
        throw UsageError("--rows times --cols is more than 2^40 weights");
    // What is looked at here is what this very device makes of the weights.
    const auto device = options.device.make_itself();
    const TensorShape shape = options.shape();
    const auto input = open_floats(options.input, shape.count(),
                                   fmt::format("{} rows of {} float32 values", options.rows, options.columns));
    const auto imatrix = open_imatrix(options);
    const float* importance = imatrix == nullptr ? nullptr : floats_of(*imatrix).data();

    const std::span<const float> weights = floats_of(*input);
    const TensorView view{DType::f32, false, input->bytes().data(), shape, nullptr, importance};
    TensorReport report;
    {
        RunningJob running;
        running.job.set_total(input->bytes().size());
        report = device->analyze(view, std::span(&spec, 1), running.job);
        if (!options.dump.empty())
            dump(options, weights, effective_spec(spec, shape), importance, *device, running.job);
    }
    Encoded encoded{std::move(report.results.at(0)), report.statistics, 0, tell_notes(*device)};
    encoded.bytes = static_cast<std::uint64_t>(std::ceil(encoded.result.stored_bits / 8));
    return encoded;
}

Json document(const Options& options, const Encoded& encoded) {
    const std::string imatrix = imatrix_use(options, encoded.result);
    Json json{{"format", encoded.result.spec.text()},
              {"rows", options.rows},
              {"cols", options.columns},
              {"bytes", encoded.bytes},
              {"imatrix", imatrix.empty() ? Json() : Json(imatrix)}};
    json.update(result_json(encoded.result));
    json["statistics"] = statistics_json(encoded.statistics);
    json["notes"] = encoded.notes;
    return json;
}

std::string text(const Options& options, const Encoded& encoded) {
    const FormatResult& result = encoded.result;
    Table table({{options.input}, {"", true}});
    table.add({"format", result.spec.text()});
    if (result.fallback)
        table.add({"used instead, as blocks do not divide the rows", result.fallback->text()});
    table.add({"rows × columns", fmt::format("{} × {}", options.rows, options.columns)});
    table.add({"stored bytes", std::to_string(encoded.bytes)});
    table.add({"bits per weight", fixed(result.bits_per_weight(), 4)});
    table.add({"MSE", number(result.mse(), 6)});
    table.add({"RMSE", number(result.rmse(), 6)});
    table.add({"relative error", number(result.relative_error(), 6)});
    table.add({"SQNR, dB", fixed(result.sqnr_db(), 3)});
    table.add({"cosine similarity", number(result.cosine(), 8)});
    table.add({"largest |error|", number(result.sums.max_abs, 6)});
    table.add({"at element", std::to_string(result.sums.max_index)});
    table.add({"mean error", number(result.mean_error(), 6)});
    table.add({"code entropy, bits", fixed(result.code_entropy(), 4)});
    if (result.sums.nonfinite > 0)
        table.add({"! left out of the sums, not finite", std::to_string(result.sums.nonfinite)});
    std::string text = table.text();
    if (imatrix_use(options, result) == "ignored")
        text += fmt::format("\n{} is not used: {} rounds without importances\n", options.imatrix, result.spec.text());
    return text;
}

} // namespace

void add_codec(CLI::App& app, Action& action) {
    const auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("codec", "Encodes a raw matrix of little-endian float32 rows");
    command->add_option("INPUT", options->input, "File of rows × columns float32 values")->required();
    command->add_option("--format", options->format, "The format: nf4, int4:group=64")->type_name("F")->required();
    const auto dimension = CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40);
    command->add_option("--rows", options->rows, "Rows of the matrix")->type_name("R")->required()->check(dimension);
    command->add_option("--cols", options->columns, "Its columns")->type_name("C")->required()->check(dimension);
    command->add_option("--imatrix", options->imatrix, "File of one float32 importance a column")->type_name("FILE");
    command->add_option("--dump", options->dump, "Folder for the arrays that the format stores, and decoded.f32")
        ->type_name("DIR");
    options->device.add_device(*command);
    options->device.add_threads(*command);
    command->add_flag("--json", options->json, "Print one JSON document");
    command->callback([options, &action] {
        action = [options] {
            const Encoded encoded = run(*options);
            options->json ? print(document(*options, encoded)) : print(text(*options, encoded));
        };
    });
}

} // namespace qs::cli
