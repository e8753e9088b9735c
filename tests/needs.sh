#!/bin/sh
# The servers that tests/journeys runs (private instances on the loopback; nothing is configured or started system-wide).
# As root on Debian: installs what is missing. Otherwise names it and fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin

missing=
command -v postfix >/dev/null || missing="$missing postfix"
command -v swaks >/dev/null || missing="$missing swaks"
command -v dovecot >/dev/null || missing="$missing dovecot-core"
[ -x /usr/lib/dovecot/lmtp ] || [ -x /usr/libexec/dovecot/lmtp ] || missing="$missing dovecot-lmtpd"
command -v clamd >/dev/null || missing="$missing clamav-daemon"
command -v haproxy >/dev/null || missing="$missing haproxy"
command -v openssl >/dev/null || missing="$missing openssl"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests need:$missing (on Debian, as root: apt-get install$missing)" >&2
    exit 1
fi

guard=/usr/sbin/policy-rc.d
if [ ! -e $guard ]; then # keeps the packages from starting their services
    trap 'rm -f $guard' EXIT
    printf '#!/bin/sh\nexit 101\n' >$guard
    chmod 755 $guard
fi
export DEBIAN_FRONTEND=noninteractive
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
