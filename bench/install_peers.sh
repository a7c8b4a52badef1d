#!/usr/bin/env bash
# Install the tools that the bench compares with into .peers, which git ignores. What is on PATH
# already is measured as well; what is in .peers comes first. A tool that cannot be built here is
# named and left out. restic needs Go, rustic needs cargo (about 15 minutes), borg a C compiler and
# the headers of OpenSSL, ACL, LZ4, xxHash and zstd; on Debian: libssl-dev libacl1-dev liblz4-dev
# libxxhash-dev libzstd-dev pkg-config.
set -uo pipefail
cd "$(dirname "$0")/.."
peers=$PWD/.peers
python=${PYTHON:-python3}
left_out=()
mkdir -p "$peers/bin"

[ -x "$peers/bin/restic" ] ||
  GOBIN=$peers/bin go install github.com/restic/restic/cmd/restic@v0.18.1 || left_out+=(restic)

[ -x "$peers/bin/rustic" ] ||
  nice -n 19 cargo install --quiet --locked --root "$peers" --no-default-features \
    rustic-rs@0.11.4 || left_out+=(rustic)

[ -x "$peers/venv/bin/python" ] || "$python" -m venv "$peers/venv"
for package in borgbackup==1.4.5 hf-xet==1.8.0; do
  "$peers/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$package" ||
    left_out+=("$package")
done

echo "in $peers: $(ls "$peers/bin" | tr '\n' ' ')$("$peers/venv/bin/borg" --version 2>/dev/null)"
[ ${#left_out[@]} -eq 0 ] || echo "left out: ${left_out[*]}"
