#include "core/analysis/pipeline.h"

#include <fnmatch.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "core/analysis/importance.h"
#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"
#include "core/formats/registry.h"

namespace qs {

namespace {

std::string why_not(const TensorInfo& tensor, bool chosen_by_name) {
    if (tensor.dtype == DType::unsupported)
        return tensor.dtype_name + " is not yet readable";
    if (!is_weight_type(tensor.dtype))
        return tensor.dtype_name + " does not hold floating-point weights";
    if (tensor.elements() == 0)
        return "has no elements";
    if (!chosen_by_name && tensor.shape.size() < 2)
        return "has fewer than two dimensions";
    return {};
}

/// The report of one tensor. Formats that several recipes come to are measured once; those that need importances are
/// skipped where an importance matrix has none, for the reason `missing`.
TensorReport analyze_tensor(const TensorView& view, std::size_t tensor, const std::vector<FormatSpec>& specs,
                            const RecipePlan& plan, const std::string& missing, Device& device, JobControl& job) {
    if (!plan.has_recipes() && missing.empty())
        return device.analyze(view, specs, job);
    std::vector<FormatSpec> formats = plan.formats(tensor), measured;
    std::vector<std::optional<std::size_t>> places(specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) {
        if (!missing.empty() && needs_importance(formats[i], view.shape))
            continue;
        const auto place = std::find(measured.begin(), measured.end(), formats[i]);
        places[i] = static_cast<std::size_t>(place - measured.begin());
        if (place == measured.end())
            measured.push_back(formats[i]);
    }
    TensorReport report = device.analyze(view, measured, job);
    std::vector<FormatResult> results;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        if (!places[i]) {
            const FormatSpec used = effective_spec(formats[i], view.shape);
            const std::string who = used == specs[i] ? "it" : "its " + used.text();
            report.skipped.push_back({specs[i], who + " needs importances: " + missing});
            continue;
        }
        results.push_back(report.results[*places[i]]);
        plan.name(results.back(), i, tensor);
    }
    report.results = std::move(results);
    return report;
}

} // namespace

Selection select_tensors(const Checkpoint& checkpoint, const std::string& glob) {
    Selection selection;
    for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        if (!glob.empty() && ::fnmatch(glob.c_str(), tensor.name.c_str(), 0) != 0)
            continue;
        const std::string reason = why_not(tensor, !glob.empty());
        if (reason.empty())
            selection.tensors.push_back(i);
        else
            selection.skipped.push_back({i, reason});
    }
    if (!glob.empty() && selection.tensors.empty() && selection.skipped.empty())
        throw Error(checkpoint.path.string(), "no tensor's name matches '" + glob + "'",
                    "list the names with the command info");
    return selection;
}

TensorView view_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
    TensorView view;
    view.dtype = tensor.dtype;
    view.byte_swapped = tensor.byte_swapped;
    view.data = checkpoint.data(tensor).data();
    view.shape = {tensor.rows(), tensor.columns()};
    view.file = checkpoint.files[tensor.file].get();
    return view;
}

std::vector<TensorReport> analyze(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors,
                                  const std::vector<FormatSpec>& specs, Device& device, JobControl& job,
                                  const std::function<void(const TensorReport&)>& on_report,
                                  const ImportanceMatrix* imatrix) {
    std::uint64_t bytes = 0;
    for (const auto index : tensors)
        bytes += checkpoint.tensors[index].bytes;
    job.set_total(bytes);

    const RecipePlan plan(checkpoint, specs, imatrix != nullptr);
    // Looked up before anything is measured: a matrix of another model is refused at once.
    std::vector<TensorImportance> importances(tensors.size());
    for (std::size_t slot = 0; imatrix != nullptr && slot < tensors.size(); ++slot)
        importances[slot] = importance_of(*imatrix, checkpoint, checkpoint.tensors[tensors[slot]]);
    std::vector<TensorReport> reports(tensors.size());
    std::mutex reporting;
    const auto analyze_one = [&](std::size_t slot) {
        job.check();
        const TensorInfo& tensor = checkpoint.tensors[tensors[slot]];
        TensorView view = view_of(checkpoint, tensor);
        const TensorImportance& importance = importances[slot];
        importance.give_to(view);
        try {
            reports[slot] = analyze_tensor(view, tensors[slot], specs, plan, importance.missing, device, job);
        } catch (const Error& error) {
            throw Error(checkpoint.files[tensor.file]->path().string() + ": tensor " + tensor.name, error.what());
        }
        reports[slot].tensor = tensors[slot];
        reports[slot].has_importance = view.importance != nullptr;
        if (on_report) {
            const std::lock_guard lock(reporting);
            on_report(reports[slot]);
        }
    };

    // Runs of small tensors go to the device together; a large one gets all of it for itself.
    std::size_t next = 0;
    while (next < tensors.size()) {
        std::size_t end = next;
        while (end < tensors.size() && checkpoint.tensors[tensors[end]].elements() <= device.divides_from())
            ++end;
        device.for_each(end - next, [&](std::size_t i) { analyze_one(next + i); });
        if (end < tensors.size())
            analyze_one(end++);
        next = end;
    }
    return reports;
}

} // namespace qs
