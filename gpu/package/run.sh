#!/bin/sh
# Tests and measures Quantoscope's CUDA device on this machine, which needs an NVIDIA driver and nothing else.
#
#   ./run.sh [STEP…]     devices module parity algebra model memcheck racecheck bench (default: all, in this order)
#
# What each step prints goes to results/STEP.txt. The status is 0 unless a step fails; without a GPU steps are skipped.
# memcheck and racecheck need compute-sanitizer of the CUDA toolkit, in PATH or named by $COMPUTE_SANITIZER.

here=$(cd "$(dirname "$0")" && pwd) || exit 1
bin=$here/bin
results=$here/results
all="devices module parity algebra model memcheck racecheck bench"
steps=${*:-$all}
for step in $steps; do
    case " $all " in
    *" $step "*) ;;
    *)
        echo "run.sh: there is no step '$step'; use $all" >&2
        exit 2
        ;;
    esac
done
mkdir -p "$results" && summary=$results/summary.txt && : >"$summary" || exit 1
failed=0
# A hundred million weights take the CPU's side of a test minutes in some formats.
QTEST_FUNCTION_TIMEOUT=36000000
export QTEST_FUNCTION_TIMEOUT

# report STEP VERDICT
report() {
    echo "$1: $2" | tee -a "$summary"
}

# skip_reason PATTERN: of the first test function that matches and was skipped in the step, or nothing.
skip_reason() {
    sed -n "s/^SKIP *: [^ ]*::$1([^)]*) *//p" "$results/$step.txt" | head -n 1
}

# run STEP COMMAND…
run() {
    step=$1
    shift
    echo "$step: running…"
    start=$(date +%s)
    "$@" >"$results/$step.txt" 2>&1
    status=$?
    took="$(($(date +%s) - start)) s"
    all_skipped=$(skip_reason initTestCase)
    some_skipped=$(skip_reason '[^ (]*')
    if [ $status -ne 0 ]; then
        failed=1
        report "$step" "FAILED with status $status after $took; the end of results/$step.txt is"
        tail -n 20 "$results/$step.txt" | sed 's/^/    /'
    elif [ -n "$all_skipped" ]; then
        report "$step" "skipped: $all_skipped"
    elif [ -n "$some_skipped" ]; then
        report "$step" "passed, $took; in part skipped: $some_skipped"
    else
        report "$step" "passed, $took"
    fi
}

# Why the GPU cannot be used, or nothing.
why_no_gpu() {
    devices=$("$bin/quantoscope-cli" devices 2>&1) || {
        echo "quantoscope-cli does not run: $devices"
        return
    }
    echo "$devices" | grep -q '^cuda.* yes *$' || echo "$devices" | sed -n 's/^cuda.* no: //p' | head -n 1
}
reason=$(why_no_gpu)

# run_on_gpu STEP COMMAND…
run_on_gpu() {
    if [ -n "$reason" ]; then
        report "$1" "skipped: $reason"
    else
        run "$@"
    fi
}

# The codes of a few formats of each family on inputs of all shapes, and the steps of a decoder: under a sanitizer
# everything is much slower. What it prints of the latter goes to results/TOOL-model.txt.
sanitize() {
    sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer)}
    if [ -z "$sanitizer" ]; then
        report "$1" "skipped: compute-sanitizer is neither in PATH nor named by COMPUTE_SANITIZER"
        return
    fi
    run_on_gpu "$1" "$sanitizer" --tool "$1" --error-exitcode 1 "$bin/gpu_parity" \
        codes_and_metrics:nf4 codes_and_metrics:int8 codes_and_metrics:q4_0 codes_and_metrics:q4_K \
        codes_and_metrics:iq4_nl codes_and_metrics:nvfp4 all_formats_together
    run_on_gpu "$1-model" "$sanitizer" --tool "$1" --error-exitcode 1 "$bin/gpu_model" \
        norms activations attention attention_that_goes_on rotary_embeddings losses
}

for step in $steps; do
    case $step in
    devices) run devices "$bin/quantoscope-cli" devices ;;
    module) run module "$bin/gpu_module" ;;
    parity) run parity "$bin/gpu_parity" ;;
    algebra) run algebra "$bin/gpu_algebra" ;;
    model) run model "$bin/gpu_model" ;;
    memcheck | racecheck) sanitize "$step" ;;
    bench) run_on_gpu bench "$bin/quantoscope-cli" bench --device cuda --json ;;
    esac
done

echo
echo "Summary (results are in $results):"
sed 's/^/    /' "$summary"
[ -z "$reason" ] || echo "no GPU was used: $reason"
[ $failed -eq 0 ] && echo "nothing failed" || echo "something FAILED"
exit $failed
