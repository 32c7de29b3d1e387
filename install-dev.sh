#!/bin/sh
# Make this checkout runnable: Debian's packages where they are missing, then a virtual environment in
# .venv with the project in it. A second run finds everything done and takes well under a second.
set -eu
cd "$(dirname "$0")"

packages="openvpn babeld miniupnpd iproute2 nftables iputils-ping openssl procps gcc python3-dev python3-venv"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "vifibnet: run this as root on Debian, or install these packages yourself first:$missing" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Debian would start the daemons as it installs them; we only want the programs.
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing >/dev/null
fi
if [ "$(id -u)" != 0 ]; then
    echo "vifibnet: run this as root: the lab makes network namespaces." >&2
    exit 1
fi

stamp=.venv/.installed
if [ ! -e "$stamp" ] || [ setup.cfg -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    # netifaces (needed by txupnp) has no wheel for today's Python: it is compiled with the headers of this one.
    [ -x .venv/bin/python ] || /usr/bin/python3 -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check --use-pep517 -e '.[test]'
    .venv/bin/twistd --help >/dev/null
    touch "$stamp"
fi
