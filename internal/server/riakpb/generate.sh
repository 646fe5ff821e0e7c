#!/usr/bin/env bash
# Makes the Go code of the .proto files anew. The plugin is the one that go.mod
# pins; protoc itself does not matter for what comes out, but for the version in
# the head of the files: the checked-in ones are by protoc 3.21.12, which is
# Debian's package protobuf-compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
"${PROTOC:-protoc}" --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
	--go_out=. --go_opt=paths=source_relative riak.proto riak_kv.proto riak_dt.proto tano.proto
