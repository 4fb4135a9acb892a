#!/bin/sh
# In a bundle of scripts/gpu-bundle.mjs: ./run test | bench | sanitize [native test filter]. What is measured goes to
# results/, as JSON and text.
cd "$(dirname "$0")" || exit 1
mkdir -p results
commit=$(cat COMMIT)
gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
echo "billfish $commit on ${gpu:-a machine without nvidia-smi}, $(date -u +%Y-%m-%dT%H:%M:%SZ)" | tee "results/$1.txt"

case "$1" in
  test)
    { ./bin/billfish_gpu_tests ${2:-}; ./bin/node test/gpu/goldens.cjs --json results/goldens.json; } 2>&1 |
      tee -a results/test.txt
    awk '/^[0-9]+ passed, [0-9]+ failed/ { passed += $1; failed += $3; parts++ }
         END { print passed + 0 " passed, " failed + 0 " failed"; exit parts < 2 || failed > 0 }' results/test.txt
    ;;
  bench)
    ./bin/cuda_gemm --json > results/gemm.json || exit 1
    ./bin/cuda_gemm | tee -a results/bench.txt
    ./bin/node dist/cli/main.js bench examples/demo-model --device-map cuda:0 --json | tee results/demo.json
    ;;
  sanitize)
    tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer /opt/nvidia/*/compute-sanitizer 2>/dev/null | head -1)
    if [ -z "$tool" ]; then
      echo "skipped: there is no compute-sanitizer on this machine" | tee -a results/sanitize.txt
      exit 0
    fi
    for check in memcheck racecheck initcheck synccheck; do
      echo "== $check"
      "$tool" --tool "$check" --error-exitcode 9 ./bin/billfish_gpu_tests ${2:-}
    done 2>&1 | tee -a results/sanitize.txt
    ! grep -q "ERROR SUMMARY: [1-9]" results/sanitize.txt
    ;;
  *)
    echo "usage: ./run test | bench | sanitize" >&2
    exit 2
    ;;
esac
