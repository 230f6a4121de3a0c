#include "core/analysis/report_json.h"

#include <fmt/format.h>

#include <algorithm>

namespace qs {

Json statistics_json(const Statistics& statistics) {
    return {{"count", statistics.count},
            {"min", json_number(statistics.min)},
            {"max", json_number(statistics.max)},
            {"mean", json_number(statistics.mean)},
            {"std", json_number(statistics.std)},
            {"skewness", json_number(statistics.skewness)},
            {"excess_kurtosis", json_number(statistics.excess_kurtosis)},
            {"zeros", statistics.zeros},
            {"nan", statistics.nan},
            {"inf", statistics.inf},
            {"beyond_3_sigma", statistics.beyond_3_sigma},
            {"beyond_6_sigma", statistics.beyond_6_sigma}};
}

Json result_json(const FormatResult& result) {
    return {{"format", result.spec.text()},
            {"bits_per_weight", json_number(result.bits_per_weight())},
            {"mse", json_number(result.mse())},
            {"rmse", json_number(result.rmse())},
            {"relative_error", json_number(result.relative_error())},
            {"sqnr_db", json_number(result.sqnr_db())},
            {"cosine", json_number(result.cosine())},
            {"max_abs_error", json_number(result.sums.max_abs)},
            {"max_abs_error_index", result.sums.max_index},
            {"mean_error", json_number(result.mean_error())},
            {"code_entropy", json_number(result.code_entropy())},
            {"used", result.used().text()},
            {"kept", result.kept.empty() ? Json() : Json(result.kept)},
            {"fallback", result.fallback ? Json(result.fallback->text()) : Json()},
            {"nonfinite", result.sums.nonfinite},
            {"flagged", result.sums.nonfinite > 0}};
}

Json tensor_json(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    return {{"name", tensor.name},
            {"dtype", tensor.dtype_name},
            {"shape", tensor.shape},
            {"role", to_string(tensor.role)},
            {"layer", tensor.layer ? Json(*tensor.layer) : Json()},
            {"bytes", tensor.bytes},
            {"file", checkpoint.files[tensor.file]->path().string()}};
}

namespace {

Json report_json(const Checkpoint& checkpoint, const TensorReport& report) {
    Json tensor = tensor_json(checkpoint, checkpoint.tensors[report.tensor]);
    tensor["statistics"] = statistics_json(report.statistics);
    tensor["results"] = Json::array();
    for (const FormatResult& result : report.results)
        tensor["results"].push_back(result_json(result));
    tensor["skipped_formats"] = Json::array();
    for (const SkippedFormat& skipped : report.skipped)
        tensor["skipped_formats"].push_back({{"format", skipped.spec.text()}, {"reason", skipped.reason}});
    return tensor;
}

Json aggregates_json(const Checkpoint& checkpoint, const std::vector<AggregateResult>& aggregates) {
    Json list = Json::array();
    for (const AggregateResult& aggregate : aggregates) {
        if (aggregate.tensors == 0)
            continue;
        Json result = result_json(aggregate.total);
        // An aggregate has no format of its own, only tensors that do.
        for (const char* of_tensors : {"used", "kept", "fallback"})
            result.erase(of_tensors);
        result["max_abs_error_tensor"] = checkpoint.tensors[aggregate.max_tensor].name;
        result["weights"] = aggregate.total.elements;
        result["tensors"] = aggregate.tensors;
        result["fallbacks"] = aggregate.fallbacks;
        list.push_back(std::move(result));
    }
    return list;
}

Json skipped_json(const Checkpoint& checkpoint, const std::vector<SkippedTensor>& skipped) {
    Json list = Json::array();
    for (const SkippedTensor& tensor : skipped)
        list.push_back({{"name", checkpoint.tensors[tensor.tensor].name}, {"reason", tensor.reason}});
    return list;
}

} // namespace

Json imatrix_json(const ImportanceMatrix* imatrix, const std::vector<TensorReport>& reports) {
    if (imatrix == nullptr)
        return {};
    return {{"file", imatrix->path.string()},
            {"entries", imatrix->entries.size()},
            {"used", std::ranges::count(reports, true, &TensorReport::has_importance)}};
}

Json analysis_json(const Checkpoint& checkpoint, const std::vector<FormatSpec>& specs,
                   const std::vector<TensorReport>& reports, const std::vector<SkippedTensor>& skipped) {
    Json document;
    document["tensors"] = Json::array();
    for (const TensorReport& report : reports)
        document["tensors"].push_back(report_json(checkpoint, report));

    const ModelReport model = aggregate(checkpoint, specs, reports);
    document["aggregation"] = "sums over all weights: tensors count by their number of elements";
    document["model"] = aggregates_json(checkpoint, model.model);
    document["layers"] = Json::array();
    for (const auto& [layer, results] : model.layers)
        document["layers"].push_back({{"layer", layer}, {"results", aggregates_json(checkpoint, results)}});
    document["roles"] = Json::array();
    for (const auto& [role, results] : model.roles)
        document["roles"].push_back({{"role", to_string(role)}, {"results", aggregates_json(checkpoint, results)}});
    document["skipped"] = skipped_json(checkpoint, skipped);
    return document;
}

namespace {

std::string quoted(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos)
        return text;
    std::string result = "\"";
    for (const char c : text)
        result += c == '"' ? std::string("\"\"") : std::string(1, c);
    return result + "\"";
}

/// One cell: text without JSON's quotes, nothing for null, a shape as 4096x4096.
std::string cell(const Json& value) {
    if (value.is_null())
        return {};
    if (value.is_string())
        return quoted(value.get<std::string>());
    if (!value.is_array())
        return value.dump();
    return fmt::format("{}", fmt::join(value.get<std::vector<std::int64_t>>(), "x"));
}

struct Row {
    std::vector<std::string> names, values;

    /// The fields of a flat object.
    void add(const Json& object) {
        for (const auto& [name, value] : object.items()) {
            if (value.is_object() || name == "results" || name == "skipped_formats")
                continue;
            names.push_back(name);
            values.push_back(cell(value));
        }
    }
};

} // namespace

std::string analysis_csv(const Checkpoint& checkpoint, const std::vector<TensorReport>& reports) {
    std::string header, rows;
    for (const TensorReport& report : reports) {
        const Json tensor = report_json(checkpoint, report);
        for (const Json& result : tensor["results"]) {
            Row row;
            row.add(tensor);
            row.add(tensor["statistics"]);
            row.add(result);
            header = fmt::format("{}\n", fmt::join(row.names, ","));
            rows += fmt::format("{}\n", fmt::join(row.values, ","));
        }
    }
    return header + rows;
}

} // namespace qs
