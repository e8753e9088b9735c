#!/bin/sh
# The servers that tests/journeys and tests/accounts run (private instances on the loopback; nothing is
# configured or started system-wide).
# As root on Debian: installs what is missing. Otherwise names it and fails.
set -eu
PATH=$PATH:/usr/sbin:/sbin

missing=
command -v postfix >/dev/null || missing="$missing postfix"
command -v swaks >/dev/null || missing="$missing swaks"
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
command -v dovecot >/dev/null || missing="$missing dovecot-core"
[ -x /usr/lib/dovecot/lmtp ] || [ -x /usr/libexec/dovecot/lmtp ] || missing="$missing dovecot-lmtpd"
command -v clamd >/dev/null || missing="$missing clamav-daemon"
command -v haproxy >/dev/null || missing="$missing haproxy"
command -v strace >/dev/null || missing="$missing strace"
command -v openssl >/dev/null || missing="$missing openssl"
command -v curl >/dev/null || missing="$missing curl"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
command -v slapd >/dev/null || missing="$missing slapd"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
# Debian installs one mail server at a time: these are unpacked beside, into a folder that other users can read.
beside=${SMTPPROXY_TEST_SERVERS:-/var/cache/smtpproxy-tests}
unpacked=
for package in exim4-daemon-light opensmtpd; do
    [ -e "$beside/$package/complete" ] || unpacked="$unpacked $package"
done
[ -n "$missing$unpacked" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    [ -z "$missing" ] || echo "The tests need:$missing (on Debian, as root: apt-get install$missing)" >&2
    [ -z "$unpacked" ] || echo "The tests need, unpacked below $beside:$unpacked (on Debian, as root: sh $0)" >&2
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
install() {
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
# shellcheck disable=SC2086
[ -z "$missing" ] || install $missing

for package in $unpacked; do
    rm -rf "${beside:?}/$package"
    mkdir -p "$beside/$package"
    (
        cd "$beside/$package"
        apt-get download -qq -o APT::Sandbox::User=root "$package"
        # shellcheck disable=SC2046
        install $(dpkg-deb -f ./*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |]*\).*/\1/p')
        dpkg -x ./*.deb .
        rm ./*.deb
        touch complete
    )
done
