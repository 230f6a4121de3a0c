#!/usr/bin/env bash
# run_fuzz.sh PROGRAM CORPUS SEEDS SECONDS: fuzzes with limits on memory and time for one input.
set -euo pipefail
mkdir -p "$2"
exec "$1" -max_total_time="$4" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 -print_final_stats=1 \
  -artifact_prefix="$2/" "$2" "$3"
