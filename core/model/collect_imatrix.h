#pragma once

#include <functional>
#include <vector>

#include "core/base/job.h"
#include "core/methods/imatrix_collector.h"
#include "core/model/decoder.h"

namespace qs {

/// Collects llama.cpp's importance matrix of a decoder: the squared inputs of every linear layer of its layers over a
/// text, under the names that llama.cpp has for them; like llama-imatrix without the head. Returns the linear layers
/// whose names are not known, which are left out. `job` counts tokens times layers. Throws Cancelled.
std::vector<LinearTensor> collect_imatrix(const Decoder& decoder, const std::vector<std::vector<int>>& windows,
                                          ImatrixCollector& collector, JobControl& job, int threads = 0);

} // namespace qs
