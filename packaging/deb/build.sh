#!/bin/sh
# Makes dist/smtpproxy_VERSION_ARCH.deb: an environment of its own in /usr/lib/smtpproxy, with Debian's Python and all
# libraries inside, the units, and the documented configuration in /etc/smtpproxy. Usage: build.sh PIP [FOLDER]
set -eu
umask 022
pip=$1
cd "$(dirname "$0")/../.."
folder=${2:-dist}
python=$(/usr/bin/python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
minor=$($python -c 'import sys; print(sys.version_info.minor)')
architecture=$(dpkg --print-architecture)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
lib=$root/usr/lib/smtpproxy

$python -m venv --without-pip "$lib"
rm -f "$lib/lib64"
# A fresh folder to build in: nothing of an earlier build gets into the package.
mkdir "$root/source"
cp -r pyproject.toml setup.py README.md LICENSE MANIFEST.in smtpproxy scripts "$root/source"
"$pip" --quiet --python "$lib/bin/python3" install --no-compile "$root/source"
rm -rf "$root/source"
version=$("$lib/bin/python3" -m smtpproxy --version | cut -d ' ' -f 2)
find "$lib/bin" -type f ! -name smtpproxy -delete
sed -i '1s|.*|#!/usr/lib/smtpproxy/bin/python3|' "$lib/bin/smtpproxy"
sed -i '/^command =/d' "$lib/pyvenv.cfg"
find "$lib" -name direct_url.json -delete

"$lib/bin/python3" -m smtpproxy init "$root/etc/smtpproxy" >/dev/null
find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +
sed -i 's|^#data = .*|data = "/var/lib/smtpproxy"|' "$root/etc/smtpproxy/smtpproxy.toml"
mkdir -p "$root/usr/bin" "$root/lib/systemd/system" "$root/usr/share/doc/smtpproxy"
ln -s ../lib/smtpproxy/bin/smtpproxy "$root/usr/bin/smtpproxy"
cp packaging/smtpproxy.service packaging/smtpproxy.socket "$root/lib/systemd/system"
cp LICENSE "$root/usr/share/doc/smtpproxy/copyright"
gzip -9n <CHANGELOG.md >"$root/usr/share/doc/smtpproxy/changelog.gz"

mkdir "$root/DEBIAN"
cp packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$root/DEBIAN"
chmod 755 "$root/DEBIAN/"*
(cd "$root" && find etc -type f | sed 's|^|/|' | sort >DEBIAN/conffiles)
cat >"$root/DEBIAN/control" <<END
Package: smtpproxy
Version: $version
Architecture: $architecture
Maintainer: The smtpproxy authors <smtpproxy@localhost>
Section: mail
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), libc6, adduser
Description: scriptable front door for mail
 Takes SMTP in front of any mail server, asks rules in Python or Lua at every
 step, and hands the mail on to that server while the client waits.
END
mkdir -p "$folder"
dpkg-deb --root-owner-group --build "$root" "$folder"
