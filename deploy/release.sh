#!/usr/bin/env bash
# Makes what a release has, in dist/ or the directory that is given: static binaries for Linux, macOS and Windows,
# Debian packages with the unit, the man pages and the completions, and checksums. It needs Go, and ar and tar for the packages.
#
#   deploy/release.sh 1.2.3
#   TARGETS="linux/amd64" deploy/release.sh 1.2.3 /tmp/dist
set -euo pipefail

version=${1:?usage: deploy/release.sh VERSION [DIR]}
out=${2:-dist}
targets=${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}

[[ $version =~ ^[0-9][0-9A-Za-z.+~-]*$ ]] || { echo "a version begins with a digit, as 1.2.3: $version" >&2; exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0 SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

# pack makes a tar that is the same whoever makes it.
pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$1" -cf - . ; }

# deb ARCH BINARY makes a Debian package: an ar of its version, control files and files.
deb() {
	local arch=$1 binary=$2 root=$work/root-$1 control=$work/control-$1
	mkdir -p "$root"/usr/{bin,lib/systemd/system,share/{man/man1,doc/tanodb,tanodb,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}} "$control"
	install -m 755 "$binary" "$root/usr/bin/tanodb"
	install -m 644 deploy/systemd/tanodb.service "$root/usr/lib/systemd/system/"
	install -m 644 LICENSE "$root/usr/share/doc/tanodb/copyright"
	"$work/host" man --dir "$root/usr/share/man/man1"
	gzip -9n "$root"/usr/share/man/man1/*.1
	"$work/host" config init >"$root/usr/share/tanodb/tanodb.toml"
	"$work/host" completion bash >"$root/usr/share/bash-completion/completions/tanodb"
	"$work/host" completion zsh >"$root/usr/share/zsh/vendor-completions/_tanodb"
	"$work/host" completion fish >"$root/usr/share/fish/vendor_completions.d/tanodb.fish"
	cat >"$control/control" <<-END
		Package: tanodb
		Version: $version
		Architecture: $arch
		Maintainer: TanoDB <tanodb@localhost>
		Section: database
		Priority: optional
		Depends: adduser
		Installed-Size: $(du -sk "$root" | cut -f1)
		Description: masterless, replicated key/value database
		 It keeps answering, and keeps every acknowledged write, while nodes fail.
		 Riak's HTTP and Protocol Buffers interfaces, one static binary.
	END
	cat >"$control/postinst" <<-'END'
		#!/bin/sh
		set -e
		if [ "$1" = configure ]; then
			adduser --system --group --home /var/lib/tanodb --no-create-home --quiet tanodb
			mkdir -p /etc/tanodb
			[ -e /etc/tanodb/tanodb.toml ] || cp /usr/share/tanodb/tanodb.toml /etc/tanodb/tanodb.toml
			[ ! -d /run/systemd/system ] || systemctl daemon-reload
		fi
	END
	cat >"$control/prerm" <<-'END'
		#!/bin/sh
		set -e
		if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now tanodb.service || true; fi
	END
	chmod 755 "$control"/{postinst,prerm}
	echo 2.0 >"$work/debian-binary"
	pack "$control" | gzip -9n >"$work/control.tar.gz"
	pack "$root" | gzip -9n >"$work/data.tar.gz"
	rm -f "$out/tanodb_${version}_$arch.deb"
	(cd "$work" && ar rcD "$out/tanodb_${version}_$arch.deb" debian-binary control.tar.gz data.tar.gz)
}

go build -trimpath -o "$work/host" ./cmd/tanodb # makes the pages and completions, here
for target in $targets; do
	os=${target%/*} arch=${target#*/} suffix=
	[[ $os != windows ]] || suffix=.exe
	binary=$out/tanodb-$version-$os-$arch$suffix
	GOOS=$os GOARCH=$arch go build -trimpath -ldflags="-s -w" -o "$binary" ./cmd/tanodb
	[[ $os != linux ]] || deb "$arch" "$binary"
	echo "$target"
done
(cd "$out" && sha256sum tanodb* >SHA256SUMS)
