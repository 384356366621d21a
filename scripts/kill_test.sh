#!/usr/bin/env bash
# For who changes what a run writes: kills a small training N times at pseudo-random moments (SIGKILL) and lets it go on; in the end
# its files must equal, bit for bit, those of a run that was never disturbed. Saves after every step, so many kills hit a save.
#   scripts/kill_test.sh [N=50] [SEED=1]
#   NEXTSCALE_PROGRAM=FILE   the program (build/nextscale)
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-50}
RANDOM=${2:-1}
program=$(realpath "${NEXTSCALE_PROGRAM:-build/nextscale}")
[ -x "$program" ] || { echo "kill_test: $program is not there; build it first" >&2; exit 2; }
work=$(mktemp -d)
child=
trap '[ -z "$child" ] || kill -9 "$child" 2>/dev/null || true; rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1

scripts/tiny_data.py "$work/data"
steps=60
train() {  # train RUN
  exec "$program" train-tokenizer --data "$work/data" --run "$work/$1" --ch 8 --norm-groups 4 --codes 16 --code-width 4 --batch 8 \
    --steps $steps --save-every 1 --validate-every 5 --keep 3 --threads 1 --workers 1 --quiet >>"$work/output.txt" 2>&1
}

# same RUN : compares everything that does not tell the time
same() {
  local last file
  last=checkpoints/step_$(printf %08d $steps)
  for file in model ema optimizer codebook; do
    cmp "$work/whole/$last/$file.safetensors" "$work/$1/$last/$file.safetensors" || return 1
  done
  cmp "$work/whole/$last/state.json" "$work/$1/$last/state.json" || return 1
  [ "$(cat "$work/$1/checkpoints/latest")" = "$(cat "$work/whole/checkpoints/latest")" ] || { echo "latest differs"; return 1; }
  [ -z "$(find "$work/$1" -name '*.part')" ] || { echo "unfinished files are left: $(find "$work/$1" -name '*.part')"; return 1; }
  python3 - "$work/whole" "$work/$1" <<'PYTHON'
import json, pathlib, sys

def metrics(run):
    newest = {}
    for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # torn
        entry.pop("pictures_per_s", None)
        newest[entry["step"], "validation" in entry] = entry
    return newest

whole, killed = map(metrics, sys.argv[1:])
# a run that is killed between a checkpoint and its validation does not catch up on that validation
for step, is_validation in list(whole):
    if is_validation and step != max(whole)[0] and (step, True) not in killed:
        del whole[step, True]
if whole != killed:
    sys.exit(f"metrics differ: {[key for key in whole | killed if whole.get(key) != killed.get(key)]}")
PYTHON
}

begin=$(date +%s%N)
(train whole)
whole_ms=$((($(date +%s%N) - begin) / 1000000))
echo "kill_test: $steps steps in $whole_ms ms undisturbed"

done_kills=0 rounds=0 in_save=0
while [ "$done_kills" -lt "$kills" ]; do
  rounds=$((rounds + 1))
  run=killed_$rounds
  # at the earliest while the program starts, at the latest after half of the run
  while [ "$done_kills" -lt "$kills" ]; do
    (train "$run") & child=$!
    ms=$((RANDOM % (whole_ms / 2) + whole_ms / 10))
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    kill -9 "$child" 2>/dev/null || true
    status=0
    { wait "$child"; } 2>/dev/null || status=$?
    child=
    if [ "$status" -eq 137 ]; then
      done_kills=$((done_kills + 1))
      [ -z "$(find "$work/$run" -name '*.part' 2>/dev/null)" ] || in_save=$((in_save + 1))
    elif [ "$status" -ne 0 ]; then
      echo "kill_test: FAILED: $run ended with $status after $done_kills kills: $(tail -n 1 "$work/output.txt")" >&2
      exit 1
    fi
    [ -f "$work/$run/finished.json" ] && break
  done
  [ -f "$work/$run/finished.json" ] || (train "$run")
  same "$run" || { echo "kill_test: FAILED: $run differs from the undisturbed run (after $done_kills kills)" >&2; exit 1; }
done
echo "kill_test: $done_kills kills, $in_save of them while a file was being written, in $rounds runs: all ended in the same bits"
