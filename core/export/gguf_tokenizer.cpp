#include "core/export/gguf_plan.h"

namespace qs {

void add_tokenizer_metadata(GgufPlan&, const Checkpoint&, int) {}

} // namespace qs
