#!/usr/bin/env bash
# Builds a release: deploy/release.sh VERSION DIR [GOOS/GOARCH...]
#
# DIR gets one static binary for each platform, a .deb for each Linux among them, and
# SHA256SUMS. The same commit, Go and VERSION make the same bytes, on any machine. It needs
# Go, bash, GNU tar, gzip and sha256sum; nothing is installed, and nothing is uploaded.
set -euo pipefail
umask 022
export LC_ALL=C TZ=UTC CGO_ENABLED=0 GOTOOLCHAIN=local
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "release: $*" >&2; exit 2; }

(($# >= 2)) || die "usage: deploy/release.sh VERSION DIR [GOOS/GOARCH...]"
version=$1 out=$2
shift 2
platforms=("$@")
((${#platforms[@]})) || platforms=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64)
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || die "VERSION is $version; it must look like v1.2.3 or v1.2.3-rc.1"
mkdir -p "$out"
out=$(cd "$out" && pwd)
[[ -z $(ls -A "$out") ]] || die "$out is not empty"

# All times in what is made are that of the commit.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build GOOS GOARCH FILE makes one binary.
build() {
	GOOS=$1 GOARCH=$2 go build -trimpath -ldflags "-s -w -buildid= -X main.stamped=$version" -o "$3" ./cmd/tanodb
}

# pack FOLDER prints it as a tar.gz in which nothing tells of this machine.
pack() {
	tar --sort=name --format=ustar --owner=root:0 --group=root:0 --numeric-owner --mtime="@$epoch" -C "$1" -cf - . | gzip -9n
}

# archive FILE MEMBER... writes an archive as ar does: a header of 60 bytes and the file,
# for each, at even places.
archive() {
	local file=$1 member size
	shift
	printf '!<arch>\n' >"$file"
	for member in "$@"; do
		size=$(wc -c <"$member")
		printf '%-16s%-12d%-6d%-6d%-8s%-10d`\n' "$(basename "$member")" "$epoch" 0 0 100644 "$size" >>"$file"
		cat "$member" >>"$file"
		((size % 2 == 0)) || printf '\n' >>"$file"
	done
}

# tree FOLDER BINARY lays out what the package installs. Everything but the binary is
# the same for all platforms, and printed by the tanodb of this machine.
tree() {
	local root=$1
	install -D -m 755 "$2" "$root/usr/bin/tanodb"
	install -D -m 644 deploy/systemd/tanodb.service "$root/usr/lib/systemd/system/tanodb.service"
	install -D -m 644 LICENSE "$root/usr/share/doc/tanodb/copyright"
	install -d "$root/etc/tanodb" "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" \
		"$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
	"$work/tanodb" config init | sed 's|^#dir = .*|dir = "/var/lib/tanodb"|' >"$root/etc/tanodb/tanodb.toml"
	grep -q '^dir = "/var/lib/tanodb"$' "$root/etc/tanodb/tanodb.toml"
	"$work/tanodb" man | gzip -9n >"$root/usr/share/man/man1/tanodb.1.gz"
	"$work/tanodb" completion bash >"$root/usr/share/bash-completion/completions/tanodb"
	"$work/tanodb" completion zsh >"$root/usr/share/zsh/vendor-completions/_tanodb"
	"$work/tanodb" completion fish >"$root/usr/share/fish/vendor_completions.d/tanodb.fish"
}

# control ARCH KILOBYTES prints the description of the package.
control() {
	cat <<-END
	Package: tanodb
	Version: $(sed 's/^v//; s/-/~/' <<<"$version")
	Architecture: $1
	Maintainer: The TanoDB project <noreply@tanodb.invalid>
	Installed-Size: $2
	Depends: passwd
	Section: database
	Priority: optional
	Homepage: https://github.com/tanodb/tanodb
	Description: masterless, replicated key/value database
	 TanoDB keeps answering, and keeps every acknowledged write, while nodes fail. One
	 static binary is server, client and operator's tool.
	END
}

# package ARCH BINARY makes the .deb. The names of Go's architectures are Debian's.
package() {
	local root=$work/$1/data meta=$work/$1/control
	mkdir -p "$root" "$meta"
	tree "$root" "$2"
	control "$1" "$(find "$root" -type f -printf '%s\n' | awk '{n += int(($1 + 1023) / 1024)} END {print n}')" >"$meta/control"
	echo /etc/tanodb/tanodb.toml >"$meta/conffiles"
	(cd "$root" && find . -type f ! -path './etc/*' -printf '%P\n' | sort | xargs md5sum) >"$meta/md5sums"
	install -m 755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$meta"
	echo 2.0 >"$work/$1/debian-binary"
	pack "$meta" >"$work/$1/control.tar.gz"
	pack "$root" >"$work/$1/data.tar.gz"
	archive "$out/tanodb_${version#v}_$1.deb" "$work/$1/debian-binary" "$work/$1/control.tar.gz" "$work/$1/data.tar.gz"
}

host=$(go env GOHOSTOS)/$(go env GOHOSTARCH)
for platform in "${platforms[@]}"; do
	[[ $platform == */* ]] || die "$platform is no platform; linux/amd64 is one"
	os=${platform%/*} arch=${platform#*/} end=
	[[ $os != windows ]] || end=.exe
	binary=$out/tanodb-$version-$os-$arch$end
	echo "building $(basename "$binary")"
	build "$os" "$arch" "$binary"
	if [[ $os == linux ]]; then
		if [[ ! -e $work/tanodb ]]; then
			if [[ $platform == "$host" ]]; then ln -s "$binary" "$work/tanodb"; else build "${host%/*}" "${host#*/}" "$work/tanodb"; fi
		fi
		package "$arch" "$binary"
	fi
done
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
cat "$out/SHA256SUMS"
