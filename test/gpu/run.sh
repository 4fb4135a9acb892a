#!/bin/sh
# In a bundle of scripts/gpu-bundle.mjs: ./run test [native test filter] | bench ["models"] | sanitize [filter]. What is
# measured goes to results/, as JSON and text.
cd "$(dirname "$0")" || exit 1
mkdir -p results
commit=$(cat COMMIT)
gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
echo "billfish $commit on ${gpu:-a machine without nvidia-smi}, $(date -u +%Y-%m-%dT%H:%M:%SZ)" | tee "results/$1.txt"

# Runs a command of billfish, whose JSON becomes results/NAME.json.
measure() {
  name=$1
  shift
  echo "== billfish $*"
  ./bin/node dist/cli/main.js "$@" --json >"results/$name.json" || { echo "FAILED $name"; return; }
  ./bin/node test/gpu/summary.cjs "results/$name.json"
}

case "$1" in
  test)
    {
      ./bin/billfish_gpu_tests ${2:-}
      ./bin/node test/gpu/goldens.cjs --json results/goldens.json
      ./bin/node test/gpu/soak.cjs --json results/soak.json
    } 2>&1 | tee -a results/test.txt
    awk '/^[0-9]+ passed, [0-9]+ failed/ { passed += $1; failed += $3; parts++ }
         END { print passed + 0 " passed, " failed + 0 " failed"; exit parts < 3 || failed > 0 }' results/test.txt
    ;;
  bench)
    models=${2:-"qwen2-7b-int4 qwen2-72b-int4"}
    found=$(./bin/node test/gpu/devices.cjs)
    echo "$found" | tee -a results/bench.txt
    case "$found" in skipped*) exit 0 ;; esac
    {
      measure gemm bench gemm --device cuda:0 --svg results/gemm.svg
      measure tiles bench tune --device cuda:0 --every-tile --bits 4,8 --rows 1,2,4,8,16 --output results/tuning.txt
      measure attention bench attention --device cuda:0
      for model in $models; do
        measure "model-$model" bench model --random "$model" --device-map cuda:0 --batch-sizes 1,4,16 --contexts 512,4096
      done
      if command -v python3 >/dev/null; then
        echo "== peers"
        python3 bench/peers/torch_int4.py | tee results/peers.json
      fi
    } 2>&1 | tee -a results/bench.txt
    ! grep -q "^FAILED" results/bench.txt
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
