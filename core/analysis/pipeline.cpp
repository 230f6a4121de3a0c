#include "core/analysis/pipeline.h"

#include <fnmatch.h>

#include <algorithm>
#include <mutex>

#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"

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

/// The report of one tensor. Formats that several recipes come to are measured once.
TensorReport analyze_tensor(const TensorView& view, std::size_t tensor, const std::vector<FormatSpec>& specs,
                            const RecipePlan& plan, Device& device, JobControl& job) {
    if (!plan.has_recipes())
        return device.analyze(view, specs, job);
    std::vector<FormatSpec> measured;
    std::vector<std::size_t> places;
    for (FormatSpec& spec : plan.formats(tensor)) {
        const auto place = std::find(measured.begin(), measured.end(), spec);
        places.push_back(static_cast<std::size_t>(place - measured.begin()));
        if (place == measured.end())
            measured.push_back(std::move(spec));
    }
    TensorReport report = device.analyze(view, measured, job);
    std::vector<FormatResult> results;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        results.push_back(report.results[places[i]]);
        plan.name(results.back(), i, tensor);
    }
    report.results = std::move(results);
    return report;
}

/// Tensors above this many elements are divided among the threads; smaller ones are handed out whole.
constexpr std::uint64_t large_tensor = std::uint64_t{1} << 22;

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
                                  const std::function<void(const TensorReport&)>& on_report) {
    std::uint64_t bytes = 0;
    for (const auto index : tensors)
        bytes += checkpoint.tensors[index].bytes;
    job.set_total(bytes);

    const RecipePlan plan(checkpoint, specs);
    std::vector<TensorReport> reports(tensors.size());
    std::mutex reporting;
    const auto analyze_one = [&](std::size_t slot) {
        job.check();
        const TensorInfo& tensor = checkpoint.tensors[tensors[slot]];
        try {
            reports[slot] = analyze_tensor(view_of(checkpoint, tensor), tensors[slot], specs, plan, device, job);
        } catch (const Error& error) {
            throw Error(checkpoint.files[tensor.file]->path().string() + ": tensor " + tensor.name, error.what());
        }
        reports[slot].tensor = tensors[slot];
        if (on_report) {
            const std::lock_guard lock(reporting);
            on_report(reports[slot]);
        }
    };

    // Runs of small tensors go to the threads together; a large one gets all threads for itself.
    std::size_t next = 0;
    while (next < tensors.size()) {
        std::size_t end = next;
        while (end < tensors.size() && checkpoint.tensors[tensors[end]].elements() <= large_tensor)
            ++end;
        device.for_each(end - next, [&](std::size_t i) { analyze_one(next + i); });
        if (end < tensors.size())
            analyze_one(end++);
        next = end;
    }
    return reports;
}

} // namespace qs
